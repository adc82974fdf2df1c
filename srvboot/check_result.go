package srvboot

import (
	"fmt"
	"slices"
	"strings"
)

func passed(format string, args ...any) CheckResult {
	return CheckResult{Level: LevelOK, Detail: fmt.Sprintf(format, args...)}
}

func skipped(why string) CheckResult { return CheckResult{Level: LevelSkip, Detail: why} }

// finding is one thing that a check saw.
type finding struct {
	level        Level
	detail, hint string
}

// findings collects what a check that looks at several things saw.
type findings []finding

func (f *findings) warn(hint, format string, args ...any) {
	*f = append(*f, finding{LevelWarn, fmt.Sprintf(format, args...), hint})
}

func (f *findings) fail(hint, format string, args ...any) {
	*f = append(*f, finding{LevelFail, fmt.Sprintf(format, args...), hint})
}

// result is the worst of the findings with all their details, the failures first, and their hints without repetition;
// ok with that detail if there are none.
func (f findings) result(format string, args ...any) CheckResult {
	if len(f) == 0 {
		return passed(format, args...)
	}
	out := CheckResult{Level: LevelWarn}
	var details, hints []string
	for _, level := range []Level{LevelFail, LevelWarn} {
		for _, one := range f {
			if one.level != level {
				continue
			}
			if level == LevelFail {
				out.Level = LevelFail
			}
			details = append(details, one.detail)
			if !slices.Contains(hints, one.hint) {
				hints = append(hints, one.hint)
			}
		}
	}
	out.Detail, out.Hint = strings.Join(details, "; "), strings.Join(hints, "; ")
	return out
}
