package dsn

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of lines: what RFC 5322, section 2.1.1 asks for, and what it bears.
const (
	wantLine = 76
	maxText  = 700
)

// clean returns s as part of one line: without what could end the line or
// confuse who reads it, and no longer than that line may be.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(cut(s, maxText))
}

// short is clean for the text that a person reads.
func short(s string) string { return clean(cut(s, 400)) }

// cut returns the first n bytes of s, at a whole character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// field writes a header field whose value is clean, folded at its spaces.
func field(w io.Writer, name, value string) {
	line := name + ": "
	start := true
	for word := range strings.FieldsSeq(value) {
		if !start && len(line)+1+len(word) > wantLine {
			fmt.Fprintf(w, "%s\n", line)
			line = "\t" + word
			continue
		}
		if !start {
			line += " "
		}
		line += word
		start = false
	}
	fmt.Fprintf(w, "%s\n", line)
}

// xtext decodes what RFC 3461, section 4 encodes: +XX stands for a byte. What
// is not well formed stays as it is.
func xtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		var c byte
		if s[i] == '+' && i+2 < len(s) {
			if n, err := fmt.Sscanf(s[i+1:i+3], "%02X", &c); n == 1 && err == nil {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// ascii returns s with a question mark for what is not ASCII.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return '?'
		}
		return r
	}, s)
}

// escaped is a character in the form that stands where only ASCII may
// (RFC 6533, section 3).
var escaped = regexp.MustCompile(`\\x\{([0-9A-F]{2,6})\}`)

// unescape returns an address of type utf-8 as it is.
func unescape(s string) string {
	return escaped.ReplaceAllStringFunc(s, func(e string) string {
		n, err := strconv.ParseUint(e[3:len(e)-1], 16, 21)
		if err != nil || !utf8.ValidRune(rune(n)) {
			return e
		}
		return string(rune(n))
	})
}
