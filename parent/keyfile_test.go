package parent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestParseKey(t *testing.T) {
	good := Key{Name: "update.example.com.", Algorithm: dns.HmacSHA256, Secret: "c2VjcmV0"}
	for _, text := range []string{
		"key \"update.example.com\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0\";\n};\n",
		"key Update.example.com. { secret c2VjcmV0; algorithm HMAC-SHA256; };",
		"# written by hand\n/* on a\nMonday */ key update.example.com{algorithm hmac-sha256;// sic\nsecret \"c2VjcmV0\";};",
	} {
		if k, err := parseKey(text); err != nil || k != good {
			t.Errorf("%s: got %+v, %v", text, k, err)
		}
	}
	for text, what := range map[string]string{
		"":          "expected key",
		"c2VjcmV0":  "expected key",
		"key k { }": "expected key",
		"key k { algorithm hmac-sha256; secret \"c2VjcmV0\"; }": "expected key",
		"key \"\" { algorithm hmac-sha256; secret c2VjcmV0; };": "not a domain name",
		"key k { algorithm hmac-md5; secret c2VjcmV0; };":       "none of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512",
		"key k { algorithm hmac-sha256; };":                     "not base64",
		"key k { algorithm hmac-sha256; secret \"!!!!\"; };":    "not base64",
		"key k { algorithm hmac-sha256; secret; };":             "a value and a semicolon",
		"key k { colour red; };":                                `unknown statement "colour"`,
	} {
		if k, err := parseKey(text); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %+v, %v; want %q", text, k, err, what)
		}
	}
}

func TestReadKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(file, []byte("key k { algorithm hmac-sha256; secret \"top-secret!\"; };"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, t.TempDir(), file + ".missing"} {
		_, err := ReadKeyFile(path)
		if err == nil || strings.Contains(err.Error(), "top-secret") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v; want an error that names the file and keeps the secret", path, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(testKey)
	f.Add("key k { algorithm hmac-sha256; secret \"c2VjcmV0\"; }; /* ")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKey(text)
		if err != nil {
			return
		}
		again, err := parseKey("key \"" + k.Name + "\" { algorithm " + k.Algorithm + "; secret \"" + k.Secret + "\"; };")
		if err != nil || again != k {
			t.Errorf("%q gives %+v, written again %+v, %v", text, k, again, err)
		}
	})
}
