package rfc5321

import (
	"errors"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Lengths of the parts of an address in bytes. RFC 5321, section 4.5.3.1 asks
// for 64 and 255 at least; senders with encoded addresses need more than 64.
const (
	MaxLocalPart = 255
	MaxDomain    = 255
)

// A Mailbox is a mail address as the grammar of SMTP has it, with what RFC
// 6531, section 3.3 adds: the local part may be UTF-8. The domain is ASCII: one
// in other letters has become its A-labels, so that rules, tables, the DNS and
// the next host all see one name. The null sender has neither part.
type Mailbox struct {
	User, Domain string
}

// IsNull reports whether m is the null sender.
func (m Mailbox) IsNull() bool { return m == Mailbox{} }

// String returns user@domain, and "" for the null sender.
func (m Mailbox) String() string {
	if m.IsNull() {
		return ""
	}
	return m.User + "@" + m.Domain
}

// ErrAddress is returned for what is no mail address.
var ErrAddress = errors.New("address syntax error")

// ParsePath reads the path at the start of s, an address in angle brackets,
// and returns what follows it. A source route is dropped, as RFC 5321,
// section 4.1.2 demands. Without a domain the address gets defaultDomain;
// "<>" gives the null address, which only MAIL may use.
func ParsePath(s, defaultDomain string) (a Mailbox, rest string, err error) {
	inner, ok := strings.CutPrefix(s, "<")
	if !ok {
		return a, "", ErrAddress
	}
	end := closing(inner)
	if end < 0 {
		return a, "", ErrAddress
	}
	inner, rest = inner[:end], inner[end+1:]
	if inner == "" {
		return a, rest, nil
	}
	if inner, err = dropRoute(inner); err != nil {
		return a, "", err
	}
	a, err = ParseMailbox(inner, defaultDomain)
	return a, rest, err
}

// closing returns the index of the bracket that ends a path, and -1 if there
// is none. One inside a quoted local part ends nothing.
func closing(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return i
		}
	}
	return -1
}

// dropRoute removes a source route, "@a,@b:".
func dropRoute(s string) (string, error) {
	if !strings.HasPrefix(s, "@") {
		return s, nil
	}
	route, rest, ok := cutRoute(s)
	if !ok {
		return "", ErrAddress
	}
	for hop := range strings.SplitSeq(route, ",") {
		domain, ok := strings.CutPrefix(hop, "@")
		if _, valid := parseDomain(domain); !ok || !valid {
			return "", ErrAddress
		}
	}
	return rest, nil
}

// cutRoute cuts s at the colon that ends its source route. The colons of an
// address literal end nothing.
func cutRoute(s string) (route, rest string, ok bool) {
	literal := false
	for i := range len(s) {
		switch s[i] {
		case '[':
			literal = true
		case ']':
			literal = false
		case ':':
			if !literal {
				return s[:i], s[i+1:], true
			}
		}
	}
	return "", "", false
}

// ParseMailbox reads an address without brackets. Without a domain it gets
// defaultDomain. The local part keeps its case, and its quotes only if it
// needs them.
func ParseMailbox(s, defaultDomain string) (Mailbox, error) {
	local, rest, err := localPart(s)
	if err != nil {
		return Mailbox{}, err
	}
	if rest == "" {
		return Mailbox{User: local, Domain: defaultDomain}, nil
	}
	domain, ok := strings.CutPrefix(rest, "@")
	if domain, valid := parseDomain(domain); ok && valid {
		return Mailbox{User: local, Domain: domain}, nil
	}
	return Mailbox{}, ErrAddress
}

// parseDomain returns a domain in ASCII.
func parseDomain(s string) (string, bool) {
	if !IsASCII(s) {
		if !graphic(s) {
			return "", false
		}
		var err error
		if s, err = idna.Lookup.ToASCII(s); err != nil {
			return "", false
		}
	}
	return s, ValidDomain(s)
}

// localPart reads the local part at the start of s.
func localPart(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		local, rest, err = quotedString(s)
	} else {
		n := strings.IndexByte(s, '@')
		if n < 0 {
			n = len(s)
		}
		local, rest = s[:n], s[n:]
		if !dotString(local) {
			err = ErrAddress
		}
	}
	if len(local) > MaxLocalPart || !graphic(local) {
		err = ErrAddress
	}
	return local, rest, err
}

// graphic reports whether all of s that is not ASCII is text that can be seen:
// no control, format or space character, and no byte that is not UTF-8.
func graphic(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || r >= utf8.RuneSelf && (!unicode.IsGraphic(r) || unicode.IsSpace(r)) {
			return false
		}
	}
	return true
}

// quotedString reads a quoted local part in its canonical spelling: a
// backslash only where one is needed, and no quotes around what is a valid
// local part without them. RFC 5321, section 4.1.2 has all spellings mean the
// same mailbox, so tables and rules must see only one.
func quotedString(s string) (local, rest string, err error) {
	var plain strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		if c == '"' {
			return quote(plain.String()), s[i+1:], nil
		}
		if c == '\\' {
			i++
			if i == len(s) {
				break
			}
			c = s[i]
		}
		if c < ' ' || c == 0x7f {
			break
		}
		plain.WriteByte(c)
	}
	return "", "", ErrAddress
}

var quoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func quote(plain string) string {
	if dotString(plain) {
		return plain
	}
	return `"` + quoter.Replace(plain) + `"`
}

// dotString reports whether s is atoms joined by single dots.
func dotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if !atext(atom[i]) {
				return false
			}
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// atext reports whether c may stand in an atom (RFC 5322, section 3.2.3;
// RFC 6531, section 3.3).
func atext(c byte) bool {
	return alphanumeric(c) || c >= utf8.RuneSelf || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// ValidDomain reports whether s can be the domain of an address or the
// argument of HELO: a host name or an address literal.
func ValidDomain(s string) bool {
	if literal, ok := strings.CutPrefix(s, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		return ok && validLiteral(literal)
	}
	return len(s) <= MaxDomain && validHost(s)
}

// validHost takes what resolvers take: labels of letters, digits and hyphens,
// with the underscore that names of the DNS often have.
func validHost(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !alphanumeric(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// validLiteral takes an IPv4 address, and an IPv6 address with or without
// the tag that RFC 5321, section 4.1.3 puts before it.
func validLiteral(s string) bool {
	bare := s
	if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
		bare = s[5:]
	}
	a, err := netip.ParseAddr(bare)
	return err == nil && a.Zone() == "" && (a.Is6() || bare == s)
}
