package member

import (
	"context"
	"fmt"
	"os"
	"strings"
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
		default:
			if !strings.HasPrefix(os.Args[1], "-test.") {
				// A word that nobody knows must not run the tests again, within the tests.
				fmt.Fprintf(os.Stderr, "this test binary has no role %q\n", os.Args[1])
				os.Exit(2)
			}
		}
	}
	goleak.VerifyTestMain(m)
}
