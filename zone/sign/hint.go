package sign

import "fmt"

// refusal is an error with the way out of it.
type refusal struct{ problem, hint string }

func (r *refusal) Error() string { return r.problem }

// Hint is a command to run or a record to publish.
func (r *refusal) Hint() string { return r.hint }

func refuse(hint, format string, args ...any) error {
	return &refusal{problem: fmt.Sprintf(format, args...), hint: hint}
}
