package parent

import (
	"net/netip"
	"slices"
	"testing"
)

// A link-local address without a zone has no route on any machine.
func TestRouted(t *testing.T) {
	here, nowhere := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fe80::1")
	for _, tt := range []struct{ addrs, want []netip.Addr }{
		{[]netip.Addr{here, nowhere}, []netip.Addr{here}},
		{[]netip.Addr{nowhere, here}, []netip.Addr{here}},
		{[]netip.Addr{nowhere}, []netip.Addr{nowhere}},
		{nil, nil},
	} {
		asked := slices.Clone(tt.addrs)
		if got := Routed(tt.addrs); !slices.Equal(got, tt.want) || !slices.Equal(tt.addrs, asked) {
			t.Errorf("of %v: %v, want %v", asked, got, tt.want)
		}
	}
}
