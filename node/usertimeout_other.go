//go:build !linux

package node

import (
	"errors"
	"net/netip"
	"time"
)

// setUserTimeout has nothing to set here.
func setUserTimeout(netip.AddrPort, time.Duration) error { return errors.ErrUnsupported }
