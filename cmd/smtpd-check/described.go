package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// parseDescribed reads the description of a transaction: a JSON object. The
// plain ones, which programs write, are read here, several times as fast as
// encoding/json reads them; it has all others.
func parseDescribed(line []byte, d *described) error {
	if parsePlain(line, d) {
		return nil
	}
	*d = described{}
	if err := json.Unmarshal(line, d); err != nil {
		return fmt.Errorf("no JSON object of a transaction: %w", err)
	}
	return nil
}

// parsePlain reads an object whose members are strings without escapes, in
// ASCII, and booleans, and reports whether line is one. Members are those of
// described, each once.
func parsePlain(line []byte, d *described) bool {
	p := plainJSON{bytes.Trim(line, " \t\r\n")}
	if !p.skip('{') {
		return false
	}
	var seen uint
	for {
		name, ok := p.text()
		if !ok || !p.skip(':') {
			return false
		}
		member := d.member(string(name))
		if member.text == nil && member.flag == nil || seen&member.bit != 0 {
			return false
		}
		seen |= member.bit
		if member.flag != nil {
			*member.flag, ok = p.boolean()
		} else {
			var value []byte
			value, ok = p.text()
			*member.text = string(value)
		}
		if !ok {
			return false
		}
		if member.text == &d.tag {
			d.Tag = &d.tag
		}
		if p.skip('}') {
			return len(p.rest) == 0
		}
		if !p.skip(',') {
			return false
		}
	}
}

// A member is where a member of an object goes.
type member struct {
	text *string
	flag *bool
	bit  uint
}

// member returns where the member of a name goes.
func (d *described) member(name string) member {
	switch name {
	case "source":
		return member{text: &d.Source, bit: 1 << 0}
	case "tag":
		return member{text: &d.tag, bit: 1 << 1}
	case "tls":
		return member{flag: &d.TLS, bit: 1 << 2}
	case "auth":
		return member{text: &d.Auth, bit: 1 << 3}
	case "helo":
		return member{text: &d.Helo, bit: 1 << 4}
	case "rdns":
		return member{text: &d.RDNS, bit: 1 << 5}
	case "mail_from":
		return member{text: &d.MailFrom, bit: 1 << 6}
	case "rcpt_to":
		return member{text: &d.RcptTo, bit: 1 << 7}
	case "internal":
		return member{flag: &d.Internal, bit: 1 << 8}
	}
	return member{}
}

// A plainJSON reads tokens off the start of a text.
type plainJSON struct {
	rest []byte
}

func (p *plainJSON) blanks() { p.rest = bytes.TrimLeft(p.rest, " \t") }

// skip passes over c and the blanks around it, if it is next.
func (p *plainJSON) skip(c byte) bool {
	p.blanks()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	p.blanks()
	return true
}

// text reads a string without escapes.
func (p *plainJSON) text() ([]byte, bool) {
	if len(p.rest) == 0 || p.rest[0] != '"' {
		return nil, false
	}
	for i, c := range p.rest[1:] {
		switch {
		case c == '"':
			text := p.rest[1 : i+1]
			p.rest = p.rest[i+2:]
			return text, true
		case c < ' ' || c == '\\' || c > '~':
			return nil, false
		}
	}
	return nil, false
}

func (p *plainJSON) boolean() (value, ok bool) {
	if rest, ok := bytes.CutPrefix(p.rest, []byte("true")); ok {
		p.rest = rest
		return true, true
	}
	rest, ok := bytes.CutPrefix(p.rest, []byte("false"))
	if ok {
		p.rest = rest
	}
	return false, ok
}
