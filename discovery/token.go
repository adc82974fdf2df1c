package discovery

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

const (
	// DefaultSize is for tokens that are made without one, as at discovery.etcd.io.
	DefaultSize = 3
	// MaxSize bounds the clusters that a token is for. etcd advises 7 members at most.
	MaxSize = 64
	// maxValue is the longest registration in octets.
	maxValue = 2048
	// maxURLs is how many peer URLs a member may register.
	maxURLs = 16
)

var (
	// A token of one's own is a path segment, and names no configuration.
	tokenForm = regexp.MustCompile(`^[A-Za-z0-9~-][A-Za-z0-9._~-]{0,127}$`)
	// A member's ID is 64 bits in hexadecimal (types.ID.String).
	idForm = regexp.MustCompile(`^[0-9a-f]{1,16}$`)
)

// NewToken returns a token that nobody can guess: 20 random octets in hexadecimal, as in etcd's clustering guide.
func NewToken() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// badValue says what of a request is not as it has to be.
type badValue struct{ what, got, want string }

func (e *badValue) Error() string {
	return fmt.Sprintf("%s %.100q: expected %s", e.what, e.got, e.want)
}

func checkToken(token string) error {
	if !tokenForm.MatchString(token) {
		return &badValue{"token", token, "letters, digits, and - . _ ~ within, 128 at most"}
	}
	return nil
}

// IsServiceURL reports whether members can reach a service by a URL: of http or https, with a host, and without a path.
func IsServiceURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && strings.Trim(u.Path, "/") == "" &&
		u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

func checkID(id string) error {
	if !idForm.MatchString(id) {
		return &badValue{"member ID", id, "1 to 16 hexadecimal digits in lower case"}
	}
	return nil
}

// parseSize reads a size. It is written as etcd reads it, without sign, space or leading zero.
func parseSize(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > MaxSize || strconv.Itoa(n) != s {
		return 0, &badValue{"size", s, "a number from 1 to " + strconv.Itoa(MaxSize)}
	}
	return n, nil
}

// checkRegistration checks what a member says of itself: one name with its URLs.
func checkRegistration(value string) error {
	bad := &badValue{"registration", value, "NAME=URL[,NAME=URL…] of one member, such as infra0=http://10.0.1.10:2380"}
	if len(value) > maxValue || strings.Count(value, ",") >= maxURLs {
		bad.want += fmt.Sprintf(", with %d octets and %d URLs at most", maxValue, maxURLs)
		return bad
	}
	m, err := types.NewURLsMap(value)
	if err != nil {
		return errors.Join(bad, err)
	}
	if len(m) != 1 {
		return bad
	}
	for name, urls := range m {
		if name == "" || len(urls) == 0 || strings.ContainsFunc(value, func(c rune) bool { return c < '!' || c > '~' }) {
			return bad
		}
	}
	return nil
}
