package member

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes the test binary its own child: Launcher executes it again with the argument "run-member", and the test
// of a dying parent executes it with "middle".
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "run-member":
			os.Exit(Main(context.Background()))
		case "middle":
			if err := middle(os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	goleak.VerifyTestMain(m)
}
