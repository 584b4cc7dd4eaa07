package rfc5322

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"
)

// A Completion completes the header of a message that a user submits: Bcc is
// removed, addresses in From, To and Cc get a domain, and a Date and a
// Message-ID are added where they are missing (RFC 6409, section 8).
type Completion struct {
	Domain string
	Date   time.Time
}

// missing returns the fields that a message lacks.
func (c *Completion) missing(date, id bool) []byte {
	var b []byte
	if !date {
		b = append(appendDate(append(b, "Date: "...), c.Date), '\n')
	}
	if !id {
		b = fmt.Appendf(b, "Message-ID: <%016x@%s>\n", rand.Uint64(), c.Domain)
	}
	return b
}

// completeAddresses returns field, a whole one with its name and folds, with
// @domain added to each address that has none. Groups, empty addresses and
// whatever does not balance are left alone.
func completeAddresses(field []byte, domain string) []byte {
	colon := bytes.IndexByte(field, ':')
	out := append([]byte(nil), field[:colon+1]...)
	rest := field[colon+1:]
	for len(rest) > 0 {
		e := scanElement(rest)
		if e.insert > 0 {
			out = append(out, rest[:e.insert]...)
			out = append(out, '@')
			out = append(out, domain...)
			out = append(out, rest[e.insert:e.end]...)
		} else {
			out = append(out, rest[:e.end]...)
		}
		rest = rest[e.end:]
	}
	return out
}

// An element is one entry of a list of addresses.
type element struct {
	end    int // where it ends, its comma included
	insert int // where a domain is missing; 0 if none is
}

// scanElement looks at the entry that begins with b. One that does not
// balance runs to the end.
func scanElement(b []byte) element {
	word := 0 // end of the last word
	var at, group, angle, closed bool
	for i := 0; i < len(b); {
		n := tokenLen(b[i:])
		if n < 0 {
			return element{end: len(b)}
		}
		c := b[i]
		i += n
		switch {
		case c == ',' && !angle && !group:
			return element{i, missingAt(word, at)}
		case c == ',' || c == '(' || c == ' ' || c == '\t' || c == '\r' || c == '\n':
		case c == '<' && !group:
			angle, word = true, 0
		case c == '>' && !group:
			angle, closed = false, true
		case c == ';' && group:
			group, at = false, true // complete as it is
		case c == ':' && !angle:
			group = true
		case c == '@':
			at = true
		case !closed:
			word = i
		}
	}
	if angle || group {
		return element{end: len(b)}
	}
	return element{len(b), missingAt(word, at)}
}

func missingAt(word int, at bool) int {
	if at {
		return 0
	}
	return word
}

// tokenLen returns the length of the quoted string or comment that begins
// with b, 1 for any other byte, and -1 for what has no end.
func tokenLen(b []byte) int {
	if b[0] != '"' && b[0] != '(' {
		return 1
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\':
			i++
		case b[0] == '"':
			if c == '"' && i > 0 {
				return i + 1
			}
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}
