package rfc5322

import "bytes"

// replaceAuthor returns a whole From field with addr as its only address. A
// name before the address is kept if there is one mailbox; several, or a
// group, would go on naming others.
func replaceAuthor(field []byte, addr string) []byte {
	colon := bytes.IndexByte(field, ':')
	out := append([]byte(nil), field[:colon+1]...)
	name, ok := displayName(field[colon+1:])
	if !ok {
		name = []byte(" ")
	}
	out = append(append(out, name...), '<')
	return append(append(out, addr...), ">\n"...)
}

// displayName returns what precedes the address of a single mailbox.
func displayName(b []byte) (name []byte, ok bool) {
	for i := 0; i < len(b); {
		n := tokenLen(b[i:])
		if n < 0 {
			return nil, false
		}
		switch b[i] {
		case ',', ':', ';', '@':
			return nil, false
		case '<':
			return b[:i], bytes.IndexByte(b[i:], ',') < 0
		}
		i += n
	}
	return nil, false
}
