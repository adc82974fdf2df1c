//go:build !linux

package lab

import "testing"

func TestLab(t *testing.T) {
	t.Skip("SKIPPED: the lab is made of network namespaces, which only Linux has")
}
