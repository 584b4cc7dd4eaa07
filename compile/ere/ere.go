// Package ere matches POSIX extended regular expressions as a table of
// OpenSMTPD means them.
package ere

import (
	"regexp"
	"strings"
)

// A Regexp is a compiled expression. It is safe for concurrent use.
type Regexp struct {
	re *regexp.Regexp
}

// Compile reads an expression. A leading "(?i)" is accepted and says nothing:
// keys and expressions are folded to lower case before they meet.
func Compile(expr string) (*Regexp, error) {
	re, err := regexp.Compile("(?s)" + strings.TrimPrefix(expr, "(?i)"))
	if err != nil {
		return nil, err
	}
	return &Regexp{re}, nil
}

// MatchString reports whether the expression is found in s.
func (r *Regexp) MatchString(s string) bool { return r.re.MatchString(s) }
