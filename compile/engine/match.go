package engine

import (
	"errors"
	"net/netip"
	"strings"

	"smtpd/compile"
	"smtpd/compile/ere"
)

// maxKey is the longest key that a table can be asked for, in bytes.
const maxKey = 1023

// ErrKeyTooLong is returned for a key that no table can hold. OpenSMTPD
// makes a temporary failure of it, and so do we: a sender who stretches his
// HELO must not pass a rule that says "not from there".
var ErrKeyTooLong = errors.New("lookup key is longer than 1023 bytes")

// fold returns s with the ASCII letters in lower case. Other bytes stay: a
// table holds bytes, not text.
func fold(s string) string {
	for i := 0; i < len(s); i++ {
		if isUpper(s[i]) {
			b := []byte(s)
			foldBytes(b[i:])
			return string(b)
		}
	}
	return s
}

func foldBytes(b []byte) {
	for i, c := range b {
		if isUpper(c) {
			b[i] = c + ('a' - 'A')
		}
	}
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

// matchDomain reports whether a domain pattern matches name; both are in
// lower case. A run of stars skips to the first occurrence of the character
// that follows it and never tries a later one, so "*.example.org" stands
// for exactly one label. Only the empty pattern matches the empty name.
func matchDomain(pattern, name string) bool {
	p, n := 0, 0
	for p < len(pattern) && n < len(name) {
		if pattern[p] != '*' {
			if pattern[p] != name[n] {
				return false
			}
			p, n = p+1, n+1
			continue
		}
		for p < len(pattern) && pattern[p] == '*' {
			p++
		}
		if p == len(pattern) {
			return true
		}
		skip := strings.IndexByte(name[n:], pattern[p])
		if skip < 0 {
			return false
		}
		n += skip
	}
	return p == len(pattern) && n == len(name)
}

// splitAddr splits an address, or an entry of a table of addresses, at its
// last @. Without one it is all user.
func splitAddr(s string) (user, domain string) {
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		return s[:at], s[at+1:]
	}
	return s, ""
}

// stripTag removes the sub-address from a user part.
func stripTag(user string, delim byte) string {
	if i := strings.IndexByte(user, delim); i >= 0 {
		return user[:i]
	}
	return user
}

// MatchMailAddr reports whether an entry of a list of addresses matches an
// address, both in any case. An empty entry matches nothing.
func MatchMailAddr(entry, addr string, delim byte) bool {
	return entry != "" && matchMailAddr(strings.ToLower(entry), strings.ToLower(addr), delim)
}

// matchMailAddr reports whether an entry (user, @domain, user@domain or @)
// matches an address; both are in lower case. The sub-address of the address
// counts only if the entry has one too.
func matchMailAddr(entry, addr string, delim byte) bool {
	wantUser, wantDomain := splitAddr(entry)
	user, domain := splitAddr(addr)
	if wantDomain != "" && !matchDomain(wantDomain, domain) {
		return false
	}
	if wantUser == "" {
		return true
	}
	if strings.IndexByte(wantUser, delim) < 0 {
		user = stripTag(user, delim)
	}
	return user == wantUser
}

// matchNetAddr reports whether entry is key, or a network that holds the
// address that key is; both are in lower case.
func matchNetAddr(entry, key string) bool {
	if entry == key {
		return true
	}
	addr, ok := parseNetAddr(key)
	if !ok {
		return false
	}
	net, ok := parseNetAddr(entry)
	return ok && net.Contains(addr.Addr())
}

// parseNetAddr reads an address or a network the way inet_net_pton does:
// IPv4 may lack octets at its end, and its width is then that of its class
// or of the octets given, whichever is more. IPv6 may have the prefix
// "ipv6:" and may stand in brackets, which then enclose the width as well.
func parseNetAddr(s string) (netip.Prefix, bool) {
	s = strings.TrimPrefix(s, "ipv6:")
	if p, ok := parseNet4(s); ok {
		return p, true
	}
	if rest, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(strings.TrimPrefix(rest, "ipv6:"), "]"); !ok {
			return netip.Prefix{}, false
		}
	}
	return parseNet6(s)
}

// ParseNetAddr reads an entry of a table of networks as matching does. It is
// false for one that only equals its own text.
func ParseNetAddr(entry string) (netip.Prefix, bool) { return parseNetAddr(entry) }

func parseNet4(s string) (netip.Prefix, bool) {
	text, width, hasWidth := strings.Cut(s, "/")
	var octets [4]byte
	n := 0
	for {
		digits, rest, more := strings.Cut(text, ".")
		v, ok := decimal(digits, 255)
		if !ok || n == len(octets) {
			return netip.Prefix{}, false
		}
		octets[n] = byte(v)
		n++
		if !more {
			break
		}
		text = rest
	}
	bits, ok := max(classBits(octets[0]), 8*n), true
	if hasWidth {
		bits, ok = decimal(width, 32)
	}
	return netip.PrefixFrom(netip.AddrFrom4(octets), bits), ok
}

// classBits is the width of a network before CIDR.
func classBits(first byte) int {
	switch {
	case first >= 240:
		return 32
	case first >= 224:
		return 4
	case first >= 192:
		return 24
	case first >= 128:
		return 16
	}
	return 8
}

func parseNet6(s string) (netip.Prefix, bool) {
	text, width, hasWidth := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return netip.Prefix{}, false
	}
	bits, ok := 128, true
	if hasWidth {
		bits, ok = decimal(width, 128)
	}
	return netip.PrefixFrom(addr, bits), ok
}

// decimal reads a number without sign that is at most limit.
func decimal(s string, limit int) (int, bool) {
	v := 0
	for i := range len(s) {
		if v = 10*v + int(s[i]) - '0'; s[i] < '0' || s[i] > '9' || v > limit {
			return 0, false
		}
	}
	return v, s != "" && len(s) <= maxDigits
}

// maxDigits is how many digits a number may have, zeros before it included.
const maxDigits = 16

// scan returns the index of the first entry that matches a folded key, or
// -1. It is the definition of what a table answers: the indexes of Static
// and of the engine are held to it by their tests.
func scan(entries []compile.Entry, s Service, key string, delim byte) int {
	for i := range entries {
		if matches(entries[i].Key, s, key, delim) {
			return i
		}
	}
	return -1
}

func matches(entry string, s Service, key string, delim byte) bool {
	switch s {
	case Domain:
		return matchDomain(entry, key)
	case NetAddr:
		return matchNetAddr(entry, key)
	case MailAddr:
		return matchMailAddr(entry, key, delim)
	case Regex:
		re, err := ere.Compile(entry)
		return err == nil && re.MatchString(key)
	}
	return entry == key
}
