package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Everything that is not a command's result goes to standard error, as lines that begin with "etcd-dns:". Errors are
// two lines: what is wrong, and a hint that is a command or a record to publish.

// exitCode ends the program with a status and prints nothing: the command has said everything already.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// usage marks an error in how the command was called.
type usage struct{ what, hint string }

func (u *usage) Error() string { return u.what }
func (u *usage) Hint() string  { return u.hint }

func isUsage(err error) bool {
	var u *usage
	return errors.As(err, &u)
}

// printError writes an error and its hint.
func printError(w io.Writer, err error) {
	fmt.Fprintln(w, "etcd-dns: error:", oneLine(err.Error()))
	fmt.Fprintln(w, "etcd-dns: hint:", oneLine(hintOf(err)))
}

// hintOf is the error's own hint, or what helps with errors of its kind.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		return h.Hint()
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return "ls -ld " + path.Path
	}
	return "etcd-dns check, and docs/operations.md"
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// say writes a line of progress or advice.
func say(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), "etcd-dns: "+format+"\n", args...)
}

// printJSON writes a result for a script.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// isTerminal reports whether a person watches w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
