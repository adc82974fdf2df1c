package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// withShortPath calls use with a name of the socket that fits sun_path (108 octets, unix(7)) however deep the data
// directory lies: through the directory's entry in /proc/self/fd.
func withShortPath(path string, use func(short string) error) error {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(dir)
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)))
}

// listenSocket makes the admin socket. The caller holds the node lock, so a socket that is already there is a dead
// run's.
func listenSocket(path string) (l net.Listener, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove a dead run's socket: %w", err)
	}
	err = withShortPath(path, func(short string) error {
		l, err = net.Listen("unix", short)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its name is gone with the descriptor; removed by path instead
	return l, nil
}

func dialSocket(ctx context.Context, path string) (conn net.Conn, err error) {
	err = withShortPath(path, func(short string) error {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", short)
		return err
	})
	return conn, err
}

// askOwnNode sends a request to the socket of the node that runs on this configuration, and decodes its answer.
func askOwnNode(ctx context.Context, o *Options, method, path string, answer any) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, o.Socket()) },
	}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &usageError{what: "no node runs on " + o.Data, cause: err,
			hint: "etcd-dns run --corefile " + o.Corefile + ", or systemctl status etcd-dns"}
	case errors.Is(err, os.ErrPermission):
		return &usageError{what: "no permission to ask the node at " + o.Socket(), cause: err, hint: "run it as root or as the node's user"}
	case err != nil:
		return fmt.Errorf("ask the node: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusConflict { // the node refuses, and says why
		var no dnssecError
		if err := json.NewDecoder(resp.Body).Decode(&no); err != nil {
			return fmt.Errorf("decode the node's refusal: %w", err)
		}
		return &usageError{what: no.Error, hint: no.Hint}
	}
	if resp.StatusCode != http.StatusOK {
		return &usageError{what: "the node answered " + resp.Status + " to " + path, hint: "run the same version of etcd-dns as the node: etcd-dns --version"}
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("decode the node's answer: %w", err)
	}
	return nil
}
