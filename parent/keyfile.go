package parent

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Key is a TSIG key (RFC 8945) for updates.
type Key struct {
	// Name and Algorithm are absolute, lower-case domain names.
	Name, Algorithm string
	// Secret is in base64, with padding.
	Secret string
}

// algorithms are those of RFC 8945 §6 that are not forbidden there; BIND takes the same names in its key files.
var algorithms = []string{dns.HmacSHA1, dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512}

const keyHint = "tsig-keygen NAME > FILE writes one, and the server has to know the same key"

// maxKeyFile bounds what is read; a key file has about 100 octets.
const maxKeyFile = 1 << 16

// ReadKeyFile reads a key file in BIND's format, as nsupdate -k does: key "NAME" { algorithm A; secret "…"; };
func ReadKeyFile(path string) (Key, error) {
	info, err := os.Stat(path)
	if err == nil && (info.IsDir() || info.Size() > maxKeyFile) {
		return Key{}, &problem{what: path + " is no key file", hint: keyHint}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("read the key: %w", err)
	}
	k, err := parseKey(string(text))
	if err != nil {
		return Key{}, &problem{what: fmt.Sprintf("%s is no key file: %v", path, err), hint: keyHint, cause: err}
	}
	return k, nil
}

// parseKey reads one key statement of named.conf(5).
func parseKey(text string) (k Key, err error) {
	words := keyWords(text)
	if len(words) < 4 || words[0] != "key" || words[2] != "{" || !slices.Equal(words[len(words)-2:], []string{"}", ";"}) {
		return k, errors.New(`expected key "NAME" { algorithm hmac-sha256; secret "…"; };`)
	}
	if _, ok := dns.IsDomainName(words[1]); !ok || words[1] == "" {
		return k, fmt.Errorf("%q is not a domain name", words[1])
	}
	k.Name = dns.CanonicalName(words[1])
	for body := words[3 : len(words)-2]; len(body) > 0; body = body[3:] {
		if len(body) < 3 || body[2] != ";" {
			return k, errors.New("each statement is a word, a value and a semicolon")
		}
		switch body[0] {
		case "algorithm":
			k.Algorithm = dns.CanonicalName(body[1])
		case "secret":
			k.Secret = body[1]
		default:
			return k, fmt.Errorf("unknown statement %q", body[0])
		}
	}
	if !slices.Contains(algorithms, k.Algorithm) {
		return k, fmt.Errorf("algorithm %q is none of %s", strings.TrimSuffix(k.Algorithm, "."), strings.ReplaceAll(strings.Join(algorithms, " "), ". ", ", "))
	}
	if raw, err := base64.StdEncoding.DecodeString(k.Secret); err != nil || len(raw) == 0 {
		return k, errors.New("the secret is not base64") // it is never quoted: errors end up in logs
	}
	return k, nil
}

// keyWords splits the text into words, strings and the signs { } ; without comments. Strings have no escapes.
func keyWords(text string) (out []string) {
	for text != "" {
		switch c := text[0]; {
		case strings.ContainsRune(" \t\r\n", rune(c)):
			text = text[1:]
		case c == '#', strings.HasPrefix(text, "//"):
			_, text, _ = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*"):
			_, text, _ = strings.Cut(text[2:], "*/")
		case strings.ContainsRune("{};", rune(c)):
			out, text = append(out, text[:1]), text[1:]
		case c == '"':
			word, rest, _ := strings.Cut(text[1:], `"`)
			out, text = append(out, word), rest
		default:
			end := strings.IndexAny(text, " \t\r\n{};\"")
			if end < 0 {
				end = len(text)
			}
			out, text = append(out, text[:end]), text[end:]
		}
	}
	return out
}
