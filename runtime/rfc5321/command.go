package rfc5321

import (
	"errors"
	"strconv"
	"strings"
)

// ErrSyntax is returned for a command line that is none.
var ErrSyntax = errors.New("syntax error")

// Split takes a command line without its line end apart: the verb in upper
// case and what follows the first space. A line with a control character or a
// byte above 126 in it is no command: SMTPUTF8 is not offered.
func Split(line string) (verb, arg string, err error) {
	for i := range len(line) {
		if c := line[i]; (c < ' ' && c != '\t') || c > '~' {
			return "", "", ErrSyntax
		}
	}
	verb, arg, _ = strings.Cut(line, " ")
	return strings.ToUpper(verb), arg, nil
}

// A Param is one parameter of MAIL or RCPT. Name is in upper case.
type Param struct {
	Name, Value string
	HasValue    bool
}

// String returns p as it was written, but for the case of its name.
func (p Param) String() string {
	if !p.HasValue {
		return p.Name
	}
	return p.Name + "=" + p.Value
}

// maxParams bounds how many parameters a command may have; no more are
// defined for any.
const maxParams = 16

// ParseParams reads the parameters that follow a path, each after a space
// (RFC 5321, section 4.1.2).
func ParseParams(s string) ([]Param, error) {
	var params []Param
	if s != "" && s[0] != ' ' {
		return nil, ErrSyntax
	}
	for field := range strings.FieldsSeq(s) {
		name, value, has := strings.Cut(field, "=")
		p := Param{strings.ToUpper(name), value, has}
		if !keyword(name) || has && !paramValue(value) || len(params) == maxParams {
			return nil, ErrSyntax
		}
		for _, q := range params {
			if q.Name == p.Name {
				return nil, ErrSyntax
			}
		}
		params = append(params, p)
	}
	return params, nil
}

func keyword(s string) bool {
	for i := range len(s) {
		if !alphanumeric(s[i]) && (s[i] != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

func paramValue(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '=' && i == 0 {
			return false
		}
	}
	return s != ""
}

// ParseSize reads the value of SIZE (RFC 1870, section 5): up to 20 digits.
// A number that no message can reach is as large as an int64.
func ParseSize(s string) (int64, error) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, ErrSyntax
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, nil
	}
	return n, nil
}

// ErrNotify is returned for NEVER together with another value.
var ErrNotify = errors.New("NEVER stands alone")

// A Notify is the set of reports that a client asks for.
type Notify struct {
	Success, Failure, Delay, Never bool
}

// ParseNotify reads the value of NOTIFY (RFC 3461, section 4.1).
func ParseNotify(s string) (Notify, error) {
	var n Notify
	for word := range strings.SplitSeq(strings.ToUpper(s), ",") {
		switch word {
		case "SUCCESS":
			n.Success = true
		case "FAILURE":
			n.Failure = true
		case "DELAY":
			n.Delay = true
		case "NEVER":
			n.Never = true
		default:
			return Notify{}, ErrSyntax
		}
	}
	if n.Never && n != (Notify{Never: true}) {
		return Notify{}, ErrNotify
	}
	return n, nil
}

// ValidORcpt reports whether s is an original recipient, type;xtext
// (RFC 3461, section 4.2).
func ValidORcpt(s string) bool {
	kind, value, ok := strings.Cut(s, ";")
	return ok && keyword(kind) && value != "" && ValidXtext(value)
}

// ValidXtext reports whether every byte of s is one that xtext may have, and
// each escape two upper-case hexadecimal digits (RFC 3461, section 4).
func ValidXtext(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c > '~' || c == '=':
			return false
		case c == '+':
			if i+2 >= len(s) || !upperHex(s[i+1]) || !upperHex(s[i+2]) {
				return false
			}
			i += 2
		}
	}
	return true
}

func upperHex(c byte) bool { return '0' <= c && c <= '9' || 'A' <= c && c <= 'F' }
