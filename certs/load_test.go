package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadBundlePermissions(t *testing.T) {
	b, _ := newTestBundle(t)
	tests := []struct {
		mode fs.FileMode
		ok   bool
	}{
		{0o600, true}, {0o400, true}, {0o640, true}, {0o440, true}, {0o700, true}, {0o650, true},
		{0o644, false}, {0o604, false}, {0o444, false}, {0o660, false}, {0o620, false}, {0o602, false}, {0o601, false}, {0o666, false}, {0o777, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%04o", tt.mode), func(t *testing.T) {
			path := writeFile(t, filepath.Join(t.TempDir(), "cluster.bundle"), b.raw, tt.mode)
			_, err := LoadBundle(path)
			if (err == nil) != tt.ok {
				t.Fatalf("err %v, want ok %v", err, tt.ok)
			}
			if err != nil {
				mustHint(t, err)
				if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprintf("%04o", tt.mode)) {
					t.Errorf("the error does not name file and mode: %v", err)
				}
			}
		})
	}
}

func TestLoadBundleCredentials(t *testing.T) {
	b, _ := newTestBundle(t)
	dir := t.TempDir()
	path := writeFile(t, filepath.Join(dir, "cluster.bundle"), b.raw, 0o444)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	below := writeFile(t, filepath.Join(dir, "sub", "cluster.bundle"), b.raw, 0o444)
	for env, want := range map[string][2]bool{"": {false, false}, ".": {false, false}, dir: {true, false}, dir + "/": {true, false}, dir + "/other": {false, false}} {
		t.Setenv("CREDENTIALS_DIRECTORY", env)
		for i, p := range []string{path, below} {
			if _, err := LoadBundle(p); (err == nil) != want[i] {
				t.Errorf("CREDENTIALS_DIRECTORY=%q, %s: %v, want ok %v", env, p, err, want[i])
			}
		}
	}
}

func TestLoadBundleUnreadable(t *testing.T) {
	dir := t.TempDir()
	tests := []struct{ name, path, want string }{
		{"missing", filepath.Join(dir, "absent"), "no such file"},
		{"directory", dir, "not a regular file"},
		{"device", "/dev/zero", "not a regular file"},
		{"empty", writeFile(t, filepath.Join(dir, "empty"), nil, 0o600), "not JSON"},
		{"huge", writeFile(t, filepath.Join(dir, "huge"), make([]byte, maxBundleSize+1), 0o600), "larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadBundle(tt.path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
				t.Fatalf("error %v, want %q and the path", err, tt.want)
			}
			mustHint(t, err)
		})
	}
	if _, err := LoadBundle(tests[0].path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file must match fs.ErrNotExist: %v", err)
	}
}

func TestRootKeyBeside(t *testing.T) {
	etc, usb := t.TempDir(), t.TempDir()
	bundle := writeFile(t, filepath.Join(etc, "cluster.bundle"), nil, 0o600)
	if err := os.Mkdir(filepath.Join(etc, "offline"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(etc, "offline", RootKeyFile), nil, 0o600)
	if path, found := RootKeyBeside(bundle); found {
		t.Errorf("found %s, which is in its own directory", path)
	}
	writeFile(t, filepath.Join(usb, "cluster.bundle"), nil, 0o600)
	key := writeFile(t, filepath.Join(usb, RootKeyFile), nil, 0o600)
	if path, found := RootKeyBeside(filepath.Join(usb, "cluster.bundle")); !found || path != key {
		t.Errorf("found %q %v, want %s", path, found, key)
	}
	link := filepath.Join(etc, "linked.bundle")
	if err := os.Symlink(filepath.Join(usb, "cluster.bundle"), link); err != nil {
		t.Fatal(err)
	}
	if path, found := RootKeyBeside(link); !found || path != key {
		t.Errorf("through a link: found %q %v, want %s", path, found, key)
	}
}
