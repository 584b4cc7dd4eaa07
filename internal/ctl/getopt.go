package ctl

import (
	"fmt"
	"strings"
)

// getopt reads flags as POSIX has them: letters that may be bundled, an
// argument attached or following. spec lists the letters; one colon behind a
// letter wants an argument, two allow one that is attached. What is left are
// the operands. sendmail's many callers rely on just these rules, which no
// parser of our command lines has.
func getopt(args []string, spec string, f func(letter byte, arg string)) (operands []string, err error) {
	for len(args) > 0 {
		a := args[0]
		if len(a) < 2 || a[0] != '-' {
			break
		}
		args = args[1:]
		if a == "--" {
			break
		}
		for a = a[1:]; a != ""; {
			letter := a[0]
			a = a[1:]
			i := strings.IndexByte(spec, letter)
			if i < 0 || letter == ':' {
				return nil, fmt.Errorf("unknown option -- %c", letter)
			}
			switch rest := spec[i+1:]; {
			case strings.HasPrefix(rest, "::"):
				f(letter, a)
				a = ""
			case strings.HasPrefix(rest, ":"):
				if a == "" {
					if len(args) == 0 {
						return nil, fmt.Errorf("option requires an argument -- %c", letter)
					}
					a, args = args[0], args[1:]
				}
				f(letter, a)
				a = ""
			default:
				f(letter, "")
			}
		}
	}
	return args, nil
}
