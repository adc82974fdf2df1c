//go:build !linux

package gateway

import "syscall"

// userTimeout does nothing here; keepAlive alone finds silent peers.
func userTimeout(_, _ string, _ syscall.RawConn) error { return nil }
