package srvboot

import (
	"errors"
	"fmt"
)

// hintError carries what the operator can do about an error; cmd prints it as the hint line.
type hintError struct {
	error
	hint string
}

// Hint is a command or a record to publish.
func (e hintError) Hint() string { return e.hint }

func (e hintError) Unwrap() error { return e.error }

// explained is the text of an error and its hint; both are empty without one.
func explained(err error) (text, hint string) {
	if err == nil {
		return "", ""
	}
	h := hintError{}
	errors.As(err, &h)
	return err.Error(), h.hint
}

// withHint adds a hint to err.
func withHint(err error, format string, args ...any) error {
	return hintError{error: err, hint: fmt.Sprintf(format, args...)}
}
