package node

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What lies in none of our zones is refused with an extended error at every door of CoreDNS's own, unless another server
// block has it, and names of the server only where plugin chaos is on.
func TestOutside(t *testing.T) {
	const ours, both = "rack1.example.org:0 {\n bind 127.0.0.1\n %s\n etcdsrv\n}\n", "rack1.example.org:0 {\n bind 127.0.0.1\n %[1]s\n etcdsrv\n}\n" +
		"tls://rack1.example.org:0 {\n bind 127.0.0.1\n %[1]s\n etcdsrv\n}\n"
	// Of the plugins that there are acl is one whose answers have an extended error of their own: 17, Filtered.
	const filter = " {\n bind 127.0.0.1\n acl {\n  filter\n }\n}\n"
	const plainDoors, everyDoor = "udp tcp", "udp tcp tcp-tls"
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	refused := map[string]string{"example.net. IN": "REFUSED 20", "example.org. IN": "REFUSED 20", ". IN": "REFUSED 20", "version.bind. CH": "REFUSED 21",
		"id.server. CH": "REFUSED 21", "rack1.example.org. CH": "REFUSED 21", "rack1.example.org. IN": "NOERROR", "nosuch.rack1.example.org. IN": "NXDOMAIN"}
	for _, c := range []struct {
		name, corefile string
		networks       string
		want           map[string]string
	}{
		{"UDP, TCP and TLS", fmt.Sprintf(both, ""), everyDoor, refused},
		{"several transports in one block", "rack1.example.org:0 tls://rack1.example.org:0 {\n bind 127.0.0.1\n etcdsrv\n}\n", everyDoor, refused},
		{"reverse zones", "rack1.example.org:0 1.0.10.in-addr.arpa:0 {\n bind 127.0.0.1\n etcdsrv\n}\n", plainDoors, refused},
		{"two blocks of ours at one door", fmt.Sprintf(ours, "") + "1.0.10.in-addr.arpa:0 {\n bind 127.0.0.1 127.0.0.2\n etcdsrv\n}\n", plainDoors, refused},
		{"no bind", "rack1.example.org:0 {\n etcdsrv\n}\n", plainDoors, refused},
		{"chaos", fmt.Sprintf(both, "chaos v5 someone"), everyDoor, map[string]string{"version.bind. CH": "v5", "version.server. CH": "v5", "VERSION.Bind. CH": "v5",
			"hostname.bind. CH": host, "id.server. CH": host, "nosuch.bind. CH": "REFUSED 21", "example.net. IN": "REFUSED 20", "version.bind. IN": "REFUSED 20"}},
		{"another block at the door", fmt.Sprintf(ours, "") + "example.net:0" + filter, plainDoors, map[string]string{"example.net. IN": "NOERROR 17",
			"www.example.net. IN": "NOERROR 17", "example.org. IN": "REFUSED 20", "rack1.example.org. IN": "NOERROR"}},
		{"the parent's block at the door", fmt.Sprintf(ours, "") + "example.org:0" + filter, plainDoors, map[string]string{"example.org. IN": "NOERROR 17",
			"rack2.example.org. IN": "NOERROR 17", "rack1.example.org. IN": "NOERROR", "example.net. IN": "REFUSED 20"}},
		{"a block for the root", ".:0" + filter + fmt.Sprintf(ours, ""), plainDoors, map[string]string{"example.net. IN": "NOERROR 17", ". IN": "NOERROR 17",
			"version.bind. CH": "NOERROR 17", "rack1.example.org. IN": "NOERROR"}},
		{"our block is the root's, too", "rack1.example.org:0 .:0 {\n bind 127.0.0.1\n etcdsrv\n}\n", plainDoors, refused},
		{"the root at another transport", "tls://.:0 {\n bind 127.0.0.1\n acl {\n  filter\n }\n}\n" + fmt.Sprintf(ours, ""), plainDoors, refused},
		// Which of the two servers is asked is not known; CoreDNS takes no zone at one address and at every address.
		{"the root at every address is taken", ".:0 {\n acl {\n  filter\n }\n}\n" + fmt.Sprintf(ours, ""), plainDoors, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := startCoreDNS(t, c.corefile)
			for network := range strings.FieldsSeq(c.networks) {
				for question, want := range c.want {
					if got := outsideAnswer(t, network, at[network], question, true); got != want {
						t.Errorf("%s over %s: %s, want %s", question, network, got, want)
					}
					if strings.HasSuffix(want, " 17") {
						continue // acl sends EDNS to those who sent none
					}
					plain := strings.Fields(want)[0]
					if got := outsideAnswer(t, network, at[network], question, false); got != plain {
						t.Errorf("%s over %s without EDNS: %s, want %s", question, network, got, plain)
					}
				}
			}
		})
	}
}

// What CoreDNS's listener refuses by the header alone has no bit of the query but RD.
func TestListenerRefusals(t *testing.T) {
	at := startCoreDNS(t, "rack1.example.org:0 {\n bind 127.0.0.1\n etcdsrv\n}\n")
	const allBits = "\x07\xf0" // AA, TC and RD; RA, Z, AD and CD
	for _, c := range []struct{ name, query, want string }{
		{"opcode 15", "\xbe\xef\x7f\xf0\x00\x00\x00\x00\x00\x00\x00\x00", "\xbe\xef\xf9\x04\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"no question", "\xbe\xef" + allBits + "\x00\x00\x00\x00\x00\x00\x00\x00", "\xbe\xef\x81\x01\x00\x00\x00\x00\x00\x00\x00\x00"},
	} {
		if got := exchangeRaw(t, "udp", at["udp"], []byte(c.query)); string(got) != c.want {
			t.Errorf("%s: % x, want % x", c.name, got, c.want)
		}
	}
}

// outsideAnswer is the text or the rcode of an answer, with its extended error.
func outsideAnswer(t *testing.T, network, addr, question string, edns bool) string {
	t.Helper()
	name, class, _ := strings.Cut(question, " ")
	q := new(dns.Msg).SetQuestion(name, dns.TypeTXT)
	q.Question[0].Qclass = dns.StringToClass[class]
	if edns {
		q.SetEdns0(1232, false)
	}
	m, _, err := testClient(network).Exchange(q, addr)
	if err != nil {
		return err.Error()
	}
	if (m.IsEdns0() != nil) != edns {
		t.Errorf("%s over %s: EDNS in the query %v, in the answer not:\n%v", question, network, edns, m)
	}
	if len(m.Answer) == 1 {
		return m.Answer[0].(*dns.TXT).Txt[0]
	}
	text := dns.RcodeToString[m.Rcode]
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				text += fmt.Sprintf(" %d", e.InfoCode)
			}
		}
	}
	return text
}
