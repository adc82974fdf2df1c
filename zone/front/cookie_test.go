package front

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"
)

// The vectors of RFC 9018 Appendix A.
func TestCookiesRFC9018(t *testing.T) {
	const secret = "e5e973e5a6b2a43f48e7dc849e37bfcf"
	tests := map[string]struct {
		current, previous, client, query string
		now                              int64
		valid                            bool
		want                             string
	}{
		"A.1": {secret, "", "198.51.100.100", "2464c4abcf10c957", 1559731985, false, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
		"A.2": {secret, "", "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", 1559734385, true, "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"},
		// The example's answer is from 1 h 52 min later, when the cookie is too old here; its reserved octets and hash are
		// right, which the next one shows at a time when it is young.
		"A.3":                     {secret, "", "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559734700, false, "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"},
		"A.3 young":               {secret, "", "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559727985 + 1800, true, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5"},
		"A.4":                     {"445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715", "2001:db8:220:1:59de:d0f4:8769:82b8", "22681ab97d52c298010000005cf7c57926556bd0934c72f8", 1559741961, true, "22681ab97d52c298010000005cf7c609a6bb79d16625507a"},
		"A.1 through IPv4-mapped": {secret, "", "::ffff:198.51.100.100", "2464c4abcf10c957", 1559731985, false, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var clock Clock
			clock.Set(time.Unix(tt.now, 0))
			c := NewCookies(&clock)
			if err := c.Set(unhex(t, tt.current), unhex(t, tt.previous)); err != nil {
				t.Fatal(err)
			}
			reply, valid, malformed := c.Reply(unhex(t, tt.query), netip.MustParseAddr(tt.client))
			if got := hex.EncodeToString(reply); got != tt.want || valid != tt.valid || malformed {
				t.Errorf("Reply = %s, %v, %v, want %s, %v, false", got, valid, malformed, tt.want, tt.valid)
			}
		})
	}
}

// When cookies are taken and when they are replaced (RFC 9018 §4.3).
func TestCookieAge(t *testing.T) {
	const made = 1559731985
	tests := map[string]struct {
		now         int64
		valid, kept bool
	}{
		"at once":                    {made, true, true},
		"half an hour":               {made + 1800, true, true},
		"more than half an hour":     {made + 1801, true, false},
		"an hour":                    {made + 3600, true, false},
		"more than an hour":          {made + 3601, false, false},
		"from five minutes ahead":    {made - 300, true, true},
		"from more than that":        {made - 301, false, false},
		"after the 32 bits are used": {made + 1<<32, true, true},
		"half of 32 bits later":      {made + 1<<31, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var clock Clock
			clock.Set(time.Unix(made, 0))
			c := NewCookies(&clock)
			if err := c.Set(unhex(t, testSecret), nil); err != nil {
				t.Fatal(err)
			}
			first, _, _ := c.Reply(unhex(t, testClientCookie), testClient)
			clock.Set(time.Unix(tt.now, 0))
			second, valid, _ := c.Reply(first, testClient)
			if kept := string(first) == string(second); valid != tt.valid || kept != tt.kept {
				t.Errorf("valid %v, kept %v, want %v, %v", valid, kept, tt.valid, tt.kept)
			}
		})
	}
}

// A cookie is of one client, one address and one secret.
func TestCookieForged(t *testing.T) {
	var clock Clock
	clock.Set(testTime)
	c := NewCookies(&clock)
	if err := c.Set(unhex(t, testSecret), nil); err != nil {
		t.Fatal(err)
	}
	good, _, _ := c.Reply(unhex(t, testClientCookie), testClient)
	if _, valid, _ := c.Reply(good, testClient); !valid {
		t.Fatal("the cookie is not valid where it was made for")
	}
	if _, valid, _ := c.Reply(good, testClient.Next()); valid {
		t.Error("valid from another address")
	}
	for i := range good {
		forged := append([]byte(nil), good...)
		forged[i] ^= 1
		if _, valid, malformed := c.Reply(forged, testClient); valid || malformed {
			t.Errorf("octet %d changed: valid %v, malformed %v, want false, false", i, valid, malformed)
		}
	}
	// RFC 9018 §4.1: other versions are not ours, whatever their hash.
	var other cookieReply
	copy(other[:], good)
	other[clientCookieLen] = 2
	binary.LittleEndian.PutUint64(other[16:], newSecret(unhex(t, testSecret)).hash(&other, testClient))
	if _, valid, _ := c.Reply(other[:], testClient); valid {
		t.Error("version 2 is valid")
	}
	if err := c.Set(unhex(t, "00000000000000000000000000000000"), unhex(t, testSecret)); err != nil {
		t.Fatal(err)
	}
	if reply, valid, _ := c.Reply(good, testClient); !valid || string(reply) == string(good) {
		t.Errorf("with the secret as the previous one: valid %v, %x, want true and a new cookie", valid, reply)
	}
	if err := c.Set(unhex(t, "00000000000000000000000000000000"), nil); err != nil {
		t.Fatal(err)
	}
	if _, valid, _ := c.Reply(good, testClient); valid {
		t.Error("valid under another secret")
	}
}

// RFC 7873 §5.2.2: which lengths are a format error.
func TestCookieLength(t *testing.T) {
	c := NewCookies(new(Clock))
	if err := c.Set(unhex(t, testSecret), nil); err != nil {
		t.Fatal(err)
	}
	for n := range 64 {
		want := n != 8 && (n < 16 || n > 40)
		reply, valid, malformed := c.Reply(make([]byte, n), testClient)
		if malformed != want || valid || (len(reply) == cookieLen) == want {
			t.Errorf("%d octets: malformed %v, valid %v, reply of %d octets, want malformed %v", n, malformed, valid, len(reply), want)
		}
	}
}

func TestCookieSecrets(t *testing.T) {
	c := NewCookies(new(Clock))
	long, short := make([]byte, 16), make([]byte, 15)
	for _, bad := range [][2][]byte{{short, nil}, {long, short}, {nil, long}} {
		if err := c.Set(bad[0], bad[1]); err == nil {
			t.Errorf("secrets of %d and %d octets are taken", len(bad[0]), len(bad[1]))
		}
	}
	if err := c.Set(long, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(nil, nil); err != nil {
		t.Fatal(err)
	}
	if reply, valid, malformed := c.Reply(make([]byte, 3), testClient); reply != nil || valid || malformed {
		t.Errorf("without secrets: %x, %v, %v, want the option ignored", reply, valid, malformed)
	}
}
