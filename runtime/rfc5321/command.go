package rfc5321

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrSyntax is returned for a command line that is none.
var ErrSyntax = errors.New("syntax error")

// Split takes a command line without its line end apart: the verb in upper
// case and what follows the first space. A line with a control character in it
// is no command. One with a byte beyond ASCII is MAIL or RCPT, and UTF-8
// (RFC 6531, section 3.3).
func Split(line string) (verb, arg string, err error) {
	for i := range len(line) {
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", "", ErrSyntax
		}
	}
	verb, arg, _ = strings.Cut(line, " ")
	if !IsASCII(verb) { // before its case is changed: a dotless i would become I
		return "", "", ErrSyntax
	}
	verb = strings.ToUpper(verb)
	if !IsASCII(arg) && (verb != "MAIL" && verb != "RCPT" || !utf8.ValidString(arg)) {
		return "", "", ErrSyntax
	}
	return verb, arg, nil
}

// IsASCII reports whether every byte of s is ASCII.
func IsASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
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

// paramValue takes what RFC 6531, section 3.3 makes of esmtp-value; most
// parameters are defined for ASCII alone.
func paramValue(s string) bool {
	if !graphic(s) {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f || s[i] == '=' && i == 0 {
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
		return maxSize, nil
	}
	return n, nil
}

const maxSize = math.MaxInt64

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

// ParseORcpt reads the value of ORCPT, type;xtext (RFC 3461, section 4.2). An
// address of type utf-8 may have characters beyond ASCII; they come back in
// the form that every host can take, \x{…} (RFC 6533, section 3).
func ParseORcpt(s string) (string, error) {
	kind, value, ok := strings.Cut(s, ";")
	if strings.EqualFold(kind, "utf-8") {
		value = Escape(value)
	}
	if !ok || !keyword(kind) || value == "" || !ValidXtext(value) {
		return "", ErrSyntax
	}
	return kind + ";" + value, nil
}

// Escape returns an address with what is not ASCII in it as \x{…}, the form of
// type utf-8 that stands where only ASCII may (RFC 6533, section 3).
func Escape(s string) string {
	if IsASCII(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
			continue
		}
		b.WriteString(`\x{` + strings.ToUpper(strconv.FormatInt(int64(r), 16)) + "}")
	}
	return b.String()
}

// ParseChunk reads the argument of BDAT: how many bytes follow, and whether
// they are the last of the message (RFC 3030, section 2).
func ParseChunk(s string) (size int64, last bool, err error) {
	digits, rest, has := strings.Cut(s, " ")
	if last = strings.EqualFold(rest, "LAST"); has && !last {
		return 0, false, ErrSyntax
	}
	size, err = ParseSize(digits)
	if err == nil && size == maxSize {
		err = ErrSyntax // nobody can count what follows
	}
	return size, last, err
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
