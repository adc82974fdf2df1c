package discovery

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// send makes one request and returns status, body and X-Etcd-Index.
func send(t testing.TB, method, at, form string) (status int, body, index string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSuffix(string(text), "\n"), resp.Header.Get("X-Etcd-Index")
}

// indices stands for numbers that depend on the store's history.
var indices = regexp.MustCompile(`("(?:modifiedIndex|createdIndex|index)":)\d+`)

// What goes over the wire, request for request, as clients of etcd 2 to 3.6 make them.
func TestWire(t *testing.T) {
	s := newService(t)
	member := func(name string) string {
		return "value=" + url.QueryEscape(name+"=http://"+name+":2380,"+name+"=https://10.0.1.10:2380")
	}
	long := "value=" + url.QueryEscape("infra0=http://"+strings.Repeat("x", 3000)+":2380")
	for _, c := range []struct {
		method, path, form string
		status             int
		body               string
	}{
		{"GET", "/tok/_config/size?quorum=false&recursive=false&sorted=false", "", 404, `{"errorCode":100,"message":"Key not found","cause":"/tok/_config/size","index":N}`},
		{"GET", "/tok", "", 404, `{"errorCode":100,"message":"Key not found","cause":"/tok","index":N}`},
		{"PUT", "/tok/1?prevExist=false", member("infra0"), 404, `{"errorCode":100,"message":"Key not found","cause":"/tok/1","index":N}`},
		{"PUT", "/tok/_config/size", "value=2", 201, `{"action":"set","node":{"key":"/tok/_config/size","value":"2","modifiedIndex":N,"createdIndex":N}}`},
		{"PUT", "/tok/_config/size", "value=2", 200, `{"action":"set","node":{"key":"/tok/_config/size","value":"2","modifiedIndex":N,"createdIndex":N}}`},
		{"PUT", "/tok/_config/size", "value=3", 412, `{"errorCode":105,"message":"Key already exists","cause":"/tok/_config/size","index":N}`},
		{"GET", "/tok/_config/size?quorum=false", "", 200, `{"action":"get","node":{"key":"/tok/_config/size","value":"2","modifiedIndex":N,"createdIndex":N}}`},
		{"GET", "/tok", "", 200, `{"action":"get","node":{"key":"/tok","dir":true,"modifiedIndex":N,"createdIndex":N}}`},
		{"GET", "/tok/1", "", 404, `{"errorCode":100,"message":"Key not found","cause":"/tok/1","index":N}`},
		{"PUT", "/tok/1?prevExist=false", member("infra0"), 201, `{"action":"create","node":{"key":"/tok/1","value":"infra0=http://infra0:2380,infra0=https://10.0.1.10:2380","modifiedIndex":N,"createdIndex":N}}`},
		{"PUT", "/tok/1?prevExist=false", member("infra0"), 412, `{"errorCode":105,"message":"Key already exists","cause":"/tok/1","index":N}`},
		{"PUT", "/tok/1", member("infra9"), 412, `{"errorCode":105,"message":"Key already exists","cause":"/tok/1","index":N}`},
		{"GET", "/tok/1?recursive=false&wait=true&waitIndex=1", "", 200, `{"action":"create","node":{"key":"/tok/1","value":"infra0=http://infra0:2380,infra0=https://10.0.1.10:2380","modifiedIndex":N,"createdIndex":N}}`},
		{"PUT", "/tok/2?prevExist=false", member("infra1"), 201, `{"action":"create","node":{"key":"/tok/2","value":"infra1=http://infra1:2380,infra1=https://10.0.1.10:2380","modifiedIndex":N,"createdIndex":N}}`},
		{"PUT", "/tok/3?prevExist=false", member("infra2"), 403, `{"errorCode":110,"message":"The request requires user authentication","cause":"the cluster of this token has all its members","index":N}`},
		{"GET", "/tok/", "", 200, `{"action":"get","node":{"key":"/tok","dir":true,"nodes":[{"key":"/tok/1","value":"infra0=http://infra0:2380,infra0=https://10.0.1.10:2380","modifiedIndex":N,"createdIndex":N},{"key":"/tok/2","value":"infra1=http://infra1:2380,infra1=https://10.0.1.10:2380","modifiedIndex":N,"createdIndex":N}],"modifiedIndex":N,"createdIndex":N}}`},
		// The guide's custom token; the same word below a prefix is another token.
		{"PUT", "/v2/keys/discovery/tok/_config/size", "value=3", 201, `{"action":"set","node":{"key":"/discovery/tok/_config/size","value":"3","modifiedIndex":N,"createdIndex":N}}`},
		{"PUT", "/v2/keys/discovery/tok/1?prevExist=false", member("infra5"), 201, `{"action":"create","node":{"key":"/discovery/tok/1","value":"infra5=http://infra5:2380,infra5=https://10.0.1.10:2380","modifiedIndex":N,"createdIndex":N}}`},
		{"GET", "/v2/keys/discovery/tok/_config/size", "", 200, `{"action":"get","node":{"key":"/discovery/tok/_config/size","value":"3","modifiedIndex":N,"createdIndex":N}}`},
		{"GET", "/v2/keys/staging/tok", "", 404, `{"errorCode":100,"message":"Key not found","cause":"/v2/keys/staging/tok","index":N}`},
		// What is no value.
		{"PUT", "/new1/_config/size", "value=0", 400, `{"errorCode":209,"message":"Invalid field","cause":"size \"0\": expected a number from 1 to 64","index":N}`},
		{"PUT", "/new1/_config/size", "value=65", 400, `{"errorCode":209,"message":"Invalid field","cause":"size \"65\": expected a number from 1 to 64","index":N}`},
		{"PUT", "/new1/_config/size", "value=03", 400, `{"errorCode":209,"message":"Invalid field","cause":"size \"03\": expected a number from 1 to 64","index":N}`},
		{"PUT", "/_new/_config/size", "value=3", 400, `{"errorCode":209,"message":"Invalid field","cause":"token \"_new\": expected letters, digits, and - . _ ~ within, 128 at most","index":N}`},
		{"PUT", "/tok/xyz", member("infra0"), 400, `{"errorCode":209,"message":"Invalid field","cause":"member ID \"xyz\": expected 1 to 16 hexadecimal digits in lower case","index":N}`},
		{"PUT", "/v2/keys/discovery/tok/2", "value=infra0", 400, ""},
		{"PUT", "/v2/keys/discovery/tok/2", "value=a%3Dhttp%3A%2F%2Fa%3A1%2Cb%3Dhttp%3A%2F%2Fb%3A1", 400, ""},
		{"PUT", "/v2/keys/discovery/tok/2", long, 400, ""},
		{"GET", "/tok?wait=true&recursive=true&waitIndex=x", "", 400, `{"errorCode":209,"message":"Invalid field","cause":"waitIndex \"x\": expected a revision","index":N}`},
		{"DELETE", "/tok/1", "", 405, "Method Not Allowed"},
		{"GET", "/", "", 404, "404 page not found"},
		{"GET", "/a/b/c/d/e/f", "", 404, "404 page not found"},
		{"GET", "/health", "", 200, "OK"},
	} {
		status, body, index := send(t, c.method, s.URL+c.path, c.form)
		body = indices.ReplaceAllString(body, "${1}N")
		if status != c.status || c.body != "" && body != c.body {
			t.Errorf("%s %s %s: %d %s\nwant %d %s", c.method, c.path, c.form, status, body, c.status, c.body)
		}
		if strings.HasPrefix(body, "{") && index == "" {
			t.Errorf("%s %s: no X-Etcd-Index", c.method, c.path)
		}
	}
}

// /new makes a token of the size that was asked for, and says the URL without a line end.
func TestNew(t *testing.T) {
	s := newService(t)
	for query, size := range map[string]string{"": "3", "?size=5": "5", "?size=1": "1"} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			status, token, _ := send(t, method, s.URL+"/new"+query, "")
			if status != 200 || !regexp.MustCompile(`^`+s.URL+`/[0-9a-f]{40}$`).MatchString(token) {
				t.Errorf("%s /new%s: %d %q", method, query, status, token)
				continue
			}
			if _, body, _ := send(t, "GET", token+"/_config/size", ""); !strings.Contains(body, `"value":"`+size+`"`) {
				t.Errorf("/new%s: size %s, want %s", query, body, size)
			}
		}
	}
	if status, body, _ := send(t, "GET", s.URL+"/new?size=many", ""); status != 400 || !strings.Contains(body, "expected a number") {
		t.Errorf("%d %s", status, body)
	}
	s.handler.o.URL = "https://discovery.example.com/"
	if _, body, _ := send(t, "GET", s.URL+"/new", ""); !strings.HasPrefix(body, "https://discovery.example.com/") || strings.Contains(body, "com//") {
		t.Errorf("%s", body)
	}
	if _, body, _ := send(t, "GET", s.URL+"/metrics", ""); !strings.Contains(body, "etcd_dns_discovery_tokens_created_total 10") || !strings.Contains(body, `refused_total{reason="400"} 1`) {
		t.Errorf("%s", body)
	}
}

// A member that waits hears of the next one at once, whatever was compacted meanwhile.
func TestWaitAcrossCompaction(t *testing.T) {
	s := newService(t)
	token := mustToken(t, s, 3)
	name := strings.TrimPrefix(token, s.URL+"/")
	first, err := s.registry.Register(t.Context(), name, "1", "infra0=http://infra0:2380")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string)
	go func() {
		_, body, _ := send(t, "GET", fmt.Sprintf("%s?recursive=true&wait=true&waitIndex=%d", token, first.Created+1), "")
		heard <- body
	}()
	for len(s.handler.waiting) == 0 { // until it waits
		select {
		case body := <-heard:
			t.Fatalf("heard %s of nobody", body)
		case <-time.After(time.Millisecond):
		}
	}
	second, err := s.registry.Register(t.Context(), name, "2", "infra1=http://infra1:2380")
	if err != nil {
		t.Fatal(err)
	}
	if body := <-heard; !strings.Contains(body, "infra1") {
		t.Errorf("heard %s", body)
	}
	if _, err := s.registry.etcd.Compact(t.Context(), second.Created, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, body, _ := send(t, "GET", token+"?recursive=true&wait=true&waitIndex=2", ""); !strings.Contains(body, "infra0") {
		t.Errorf("heard %s, want the first registration", body)
	}
}

// FuzzHandler: whatever the request, the answer is one of HTTP, and only well-formed tokens and members get in.
func FuzzHandler(f *testing.F) {
	s := newService(f)
	s.handler.poll = 5 * time.Millisecond
	if _, err := s.registry.Create(f.Context(), "tok", 3); err != nil {
		f.Fatal(err)
	}
	f.Add("GET", "/new?size=3", "")
	f.Add("PUT", "/tok/1?prevExist=false", "value=infra0%3Dhttp%3A%2F%2Finfra0%3A2380")
	f.Add("PUT", "/v2/keys/discovery/a/_config/size", "value=3")
	f.Add("GET", "/tok/1?wait=true&waitIndex=99999999999999999999", "")
	f.Add("GET", "/tok?wait=true&recursive=true&waitIndex=2", "")
	f.Add("GET", "/tok/_config/size", "")
	f.Fuzz(func(t *testing.T, method, path, form string) {
		u, err := url.Parse(path)
		if err != nil || u.Host != "" || !strings.HasPrefix(path, "/") {
			return
		}
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(form))
		if err != nil {
			return
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return // net/http did not send it
		}
		defer func() { _ = resp.Body.Close() }()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode >= 500 && resp.StatusCode != http.StatusInsufficientStorage && resp.StatusCode != http.StatusNotImplemented {
			t.Errorf("%s %s: %s, %v", method, path, resp.Status, err)
		}
		all, err := s.registry.etcd.Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range all.Kvs {
			if !keyForm.Match(kv.Key) {
				t.Fatalf("%s %s made the key %q", method, path, kv.Key)
			}
		}
	})
}

var keyForm = regexp.MustCompile(`^/_etcd/registry/([A-Za-z0-9~-][A-Za-z0-9._~-]*:)?[A-Za-z0-9~-][A-Za-z0-9._~-]*/(_config/size|members/[0-9a-f]{1,16})$`)

// FuzzRegistration: what is accepted is one member, and reads the same in etcd's words.
func FuzzRegistration(f *testing.F) {
	for _, v := range []string{"infra0=http://10.0.1.10:2380", "a=http://a:1,a=http://b:2", "a=http://a:1,b=http://b:2", "=", "a=b", "a=http://a:1,=http://b:1", "a=http://a:1\n"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if checkRegistration(v) != nil {
			return
		}
		key := "1"
		if got, err := clusterOf([]*node{{Key: key, Value: &v}}); err != nil || got != v {
			t.Errorf("%q is accepted, and becomes %q, %v", v, got, err)
		}
	})
}

func TestIsServiceURL(t *testing.T) {
	for s, want := range map[string]bool{
		"http://discovery.example.com:8087": true, "https://[2001:db8::1]/": true,
		"discovery.example.com:8087/base": false, "http://discovery.example.com/base": false, "http://:8087": false, "ftp://d": false,
		"http://a@d": false, "http://d?x": false, "http://d#x": false, "": false, "http://d:x": false,
	} {
		if got := IsServiceURL(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}
