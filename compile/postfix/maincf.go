package postfix

import (
	"fmt"
	"strings"

	"smtpd/lang/token"
)

// Budgets. What is beyond them is refused: no mail host needs it.
const (
	maxFile   = 4 << 20 // bytes of a file
	maxLines  = 100_000 // of a file that say something
	maxValue  = 1 << 20 // bytes of a value, expanded
	maxNested = 100     // parameters in each other
)

// A line is a logical line of a file of Postfix: with the lines that begin
// with a blank and go on with it.
type line struct {
	text string
	num  int // of its first line in the file
}

// logical returns the logical lines of text. Empty lines and comments say
// nothing, even between a line and what goes on with it.
func logical(name string, text []byte) ([]line, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d that are read", name, len(text), maxFile)
	}
	var lines []line
	var parts []string // of the line in hand
	flush := func() {
		if len(parts) > 0 {
			lines[len(lines)-1].text = strings.TrimRight(strings.Join(parts, " "), blanks)
		}
		parts = nil
	}
	n := 0
	for raw := range strings.Lines(string(text)) {
		n++
		// Postfix takes a line for a C string.
		raw, _, _ = strings.Cut(raw, "\x00")
		trimmed := strings.Trim(raw, blanks)
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case strings.IndexByte(" \t", raw[0]) >= 0 && len(lines) > 0:
			parts = append(parts, trimmed)
		case len(lines) == maxLines:
			return nil, fmt.Errorf("%s: more than %d lines", name, maxLines)
		default:
			flush()
			lines = append(lines, line{num: n})
			parts = []string{trimmed}
		}
	}
	flush()
	return lines, nil
}

const blanks = " \t\r\n\v\f"

// A param is a parameter that is set.
type param struct {
	name, value string // as written
	at          token.Pos
}

// A scope is the parameters that are in force: those of main.cf, and for a
// service those that master.cf sets for it.
type scope struct {
	params map[string]*param
	outer  *scope
	server string // what this host is called, if that is known
}

// lookup returns a parameter that is set.
func (s *scope) lookup(name string) *param {
	for ; s != nil; s = s.outer {
		if p := s.params[name]; p != nil {
			return p
		}
	}
	return nil
}

// set reports whether a parameter is set.
func (s *scope) set(name string) bool { return s.lookup(name) != nil }

// readMain reads the parameters of main.cf, in its order; of those that are
// set twice the last counts.
func readMain(name string, text []byte) (*scope, []*param, error) {
	lines, err := logical(name, text)
	if err != nil {
		return nil, nil, err
	}
	s := &scope{params: make(map[string]*param)}
	var order []*param
	for _, l := range lines {
		key, value, ok := strings.Cut(l.text, "=")
		key = strings.Trim(key, blanks)
		if !ok || key == "" || strings.ContainsAny(key, blanks) {
			return nil, nil, &syntaxError{token.Pos{Filename: name, Line: l.num, Column: 1}, fmt.Sprintf("%q is no setting: want name = value", clip(l.text))}
		}
		p := &param{key, strings.Trim(value, blanks), token.Pos{Filename: name, Line: l.num, Column: 1}}
		if s.params[key] == nil {
			order = append(order, p)
		} else {
			*s.params[key] = *p
			continue
		}
		s.params[key] = p
	}
	return s, order, nil
}

// A syntaxError is what Postfix could not read either.
type syntaxError struct {
	at  token.Pos
	msg string
}

func (e *syntaxError) Error() string { return e.at.String() + ": " + e.msg }

// clip shortens text for a message.
func clip(s string) string {
	const limit = 60
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "..."
}
