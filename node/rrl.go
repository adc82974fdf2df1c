package node

import (
	"net/netip"
	"strconv"
	"strings"
)

// maxRate is the highest rate limit that is one.
const maxRate = 1_000_000

// rrl reads the rate limit: RATE, off, or exempt CIDR….
func (p *stanza) rrl(args []string) error {
	if len(args) > 1 && args[0] == "exempt" {
		for _, a := range args[1:] {
			net, err := netip.ParsePrefix(a)
			if err != nil || net != net.Masked() {
				return p.errorf("%q is not a network", "write an address and a prefix length without host bits, such as 10.0.0.0/8 or fd00::/8", a)
			}
			p.o.RateExempt = append(p.o.RateExempt, net)
		}
		return nil
	}
	if first, twice := p.seen["rrl"]; twice {
		return p.errorf("the rate of rrl stands here and in line %d", "keep one of the two", first)
	}
	p.seen["rrl"] = p.Line()
	if len(args) == 1 && args[0] == "off" {
		p.o.Rate = 0
		return nil
	}
	if len(args) == 1 {
		if v, err := strconv.Atoi(args[0]); err == nil && v > 0 && v <= maxRate {
			p.o.Rate = v
			return nil
		}
	}
	return p.errorf("%q is not a rate limit", "write rrl with answers per second, 1 to 1000000, rrl off, or rrl exempt CIDR…", strings.Join(args, " "))
}
