package certs

import "fmt"

// hinted is an error that tells the operator what to do next.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// Hint is a command to run or a record to publish.
func (e *hinted) Hint() string { return e.hint }

// withHint makes an error from a format, with its hint.
func withHint(hint, format string, args ...any) error {
	return &hinted{err: fmt.Errorf(format, args...), hint: hint}
}
