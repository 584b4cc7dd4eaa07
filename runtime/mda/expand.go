package mda

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"smtpd/compile/expand"
	"smtpd/runtime/envelope"
	"smtpd/runtime/parent"
)

const (
	maxToken  = 128  // of a specifier's text
	maxResult = 1024 // of an expanded text
)

// fields are the values of format specifiers.
type fields struct {
	sender, rcpt, dest  envelope.Address
	username, directory string
	command             string // the wrapped command; wrappers only
	wrapper             bool
	delimiter           byte // of sub-addresses
}

// expand replaces the format specifiers of text, %{name}, by what they stand
// for. Whatever text's author wrote stays as it is. A value is data from the
// network and keeps, whatever its modifiers, only bytes that mean nothing to a
// shell or a file system: all others become colons, and so do dots that could
// make a directory's name and a dash that could make an option.
func (f *fields) expand(text string) (string, error) {
	var b []byte
	rest := text
	if strings.HasPrefix(rest, "~/") {
		b = append(b, f.directory...)
		rest = rest[1:]
	}
	for rest != "" {
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			i = len(rest)
		}
		b = append(b, rest[:i]...)
		rest = rest[i:]
		switch {
		case strings.HasPrefix(rest, "%%"):
			b = append(b, '%')
			rest = rest[2:]
		case strings.HasPrefix(rest, "%{"):
			token, after, ok := strings.Cut(rest[2:], "}")
			if !ok || len(token) >= maxToken {
				return text, nil
			}
			var err error
			if b, err = f.appendValue(b, token); err != nil {
				return "", fmt.Errorf("%%{%s}: %w", token, err)
			}
			rest = after
		case rest != "":
			b = append(b, '%')
			rest = rest[1:]
		}
	}
	if len(b) >= maxResult {
		return "", fmt.Errorf("result of %d bytes is too long", len(b))
	}
	if climbs(string(b)) > climbs(text) {
		return "", errors.New("values join to a name of a parent directory")
	}
	return string(b), nil
}

// climbs counts the components of the words of s that are "..".
func climbs(s string) int {
	n := 0
	for _, c := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("/ \t\n\"';|&()<>`=", r) }) {
		if c == ".." {
			n++
		}
	}
	return n
}

// appendValue appends what token stands for.
func (f *fields) appendValue(b []byte, token string) ([]byte, error) {
	name, sub, mods, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	value, trusted, err := f.value(name)
	if err != nil {
		return nil, err
	}
	for _, m := range mods {
		if value, err = f.modify(value, m); err != nil {
			return nil, err
		}
	}
	if value != "" && sub != nil {
		if value, err = sub.of(value); err != nil {
			return nil, err
		}
	}
	if trusted {
		return append(b, value...), nil
	}
	return appendPlain(b, value), nil
}

// parseToken takes a specifier apart: a name, and either a substring or
// modifiers.
func parseToken(token string) (name string, sub *substring, mods []string, err error) {
	name, inner, ok := strings.Cut(token, "[")
	if ok {
		inner, after, ok := strings.Cut(inner, "]")
		if !ok || after != "" {
			return "", nil, nil, errors.New("a substring must end the specifier")
		}
		sub, err = parseSubstring(inner)
		return name, sub, nil, err
	}
	name, rest, ok := strings.Cut(token, ":")
	if ok {
		mods = strings.Split(rest, "|")
	}
	return name, nil, mods, nil
}

// value returns what name stands for, and whether the configuration or the
// user's record said it, so that it may hold anything.
func (f *fields) value(name string) (value string, trusted bool, err error) {
	switch strings.ToLower(name) {
	case "sender":
		return f.sender.String(), false, nil
	case "sender.user":
		return f.sender.User, false, nil
	case "sender.domain":
		return f.sender.Domain, false, nil
	case "rcpt":
		return f.rcpt.String(), false, nil
	case "rcpt.user":
		return f.rcpt.User, false, nil
	case "rcpt.domain":
		return f.rcpt.Domain, false, nil
	case "dest":
		return f.dest.String(), false, nil
	case "dest.user":
		return f.dest.User, false, nil
	case "dest.domain":
		return f.dest.Domain, false, nil
	case "user.username":
		return f.username, false, nil
	case "user.directory":
		return f.directory, true, nil
	case "mbox.from":
		if f.sender.IsNull() {
			return "MAILER-DAEMON", false, nil
		}
		return f.sender.String(), false, nil
	case "mda":
		if f.wrapper {
			return f.command, true, nil
		}
	}
	return "", false, errors.New("no such specifier")
}

// modify applies a modifier to value.
func (f *fields) modify(value, modifier string) (string, error) {
	switch strings.ToLower(modifier) {
	case "lowercase":
		return changeCase(value, 'A', 'Z'), nil
	case "uppercase":
		return changeCase(value, 'a', 'z'), nil
	case "strip":
		user, domain := value, ""
		// The @ of an address is its last; a local part alone has one only
		// within quotes.
		if at := strings.LastIndexByte(value, '@'); at >= 0 && !strings.HasSuffix(value, `"`) {
			user, domain = value[:at], value[at:]
		}
		name, _ := expand.SplitUser(user, f.delimiter)
		return name + domain, nil
	case "raw": // values are plain, raw or not
		return value, nil
	}
	return "", fmt.Errorf("no modifier %q", modifier)
}

// changeCase changes the case of the letters of s between first and last.
func changeCase(s string, first, last byte) string {
	b := []byte(s)
	for i, c := range b {
		if first <= c && c <= last {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}

// A substring is [i], [i:j], [i:] or [:j].
type substring struct {
	begin, end int // end is inclusive
}

func parseSubstring(s string) (*substring, error) {
	if s == "" {
		return nil, errors.New("empty brackets")
	}
	begin, end, colon := strings.Cut(s, ":")
	sub := substring{0, maxResult}
	var err1, err2 error
	if begin != "" {
		sub.begin, err1 = parseOffset(begin)
	}
	switch {
	case !colon:
		sub.end = sub.begin
	case end != "":
		sub.end, err2 = parseOffset(end)
	}
	return &sub, errors.Join(err1, err2)
}

func parseOffset(s string) (int, error) {
	n, err := strconv.Atoi(strings.TrimLeft(s, " \t"))
	if err != nil || n < -maxResult || n > maxResult {
		return 0, fmt.Errorf("%q is no offset", s)
	}
	return n, nil
}

// of returns the part of value that s names. A negative begin counts from the
// end of value, a negative end from its last byte.
func (s *substring) of(value string) (string, error) {
	n := len(value)
	begin, end := s.begin, s.end
	if begin >= n {
		return "", errors.New("substring begins behind the end")
	}
	if end >= n {
		end = n - 1
	}
	if begin < 0 {
		begin += n
	}
	if end < 0 {
		end += n - 1
	}
	if begin < 0 || end < begin {
		return "", errors.New("substring ends before it begins")
	}
	return value[begin : end+1], nil
}

// appendPlain appends value to b, as bytes that mean nothing to a shell or a
// file system.
func appendPlain(b []byte, value string) []byte {
	dots := onlyDots(b)
	for i := 0; i < len(value); i++ {
		c := value[i]
		dots = dots && c == '.'
		if dots || !parent.Plain(c) || c == '-' && startsWord(b) {
			c = ':'
		}
		b = append(b, c)
	}
	return b
}

// onlyDots reports whether the last component of b is dots or empty, so that
// one more could make it the name of a parent directory or a hidden one.
func onlyDots(b []byte) bool {
	b = b[:len(strings.TrimRight(string(b), "."))]
	return startsWord(b) || b[len(b)-1] == '/'
}

// startsWord reports whether what follows b is the first byte of a word of
// the shell.
func startsWord(b []byte) bool {
	return len(b) == 0 || strings.IndexByte(" \t\n\"';|&()<>`=", b[len(b)-1]) >= 0
}
