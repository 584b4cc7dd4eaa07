package expand

import (
	"strings"
	"unicode/utf8"

	"smtpd/compile/engine"
)

// localPartMarks are the characters, beside letters and digits, that a local
// part may hold without quotes. Some mean something to a shell: whatever builds
// a command from an address must escape them.
const localPartMarks = "!#$%*/?|^{}`~&'+-=_."

const maxLocalPart = 255

// IsLocalPart reports whether s may be the local part of an address that an
// alias or a .forward names. It also refuses what a path would take for the
// directory above: an action may make a path of an address.
func IsLocalPart(s string) bool {
	return s != "" && len(s) <= maxLocalPart && consists(s, localPartMarks) && !climbs(s)
}

// isRcptUser reports whether s may be the local part that a client gives: it
// may also be UTF-8, or quoted if it must be (RFC 5321, section 4.1.2).
func isRcptUser(s string) bool {
	plain, quoted := Unquote(s)
	if quoted && Quote(plain) != s || !quoted && !isDotString(s, true) {
		return false
	}
	return len(s) <= maxLocalPart && isPrintable(s) && utf8.ValidString(s) && !climbs(plain)
}

// climbs reports whether s, taken for a path, has a component . or .. .
func climbs(s string) bool {
	return strings.Contains("/"+s+"/", "/../") || strings.Contains("/"+s+"/", "/./")
}

// isDotString reports whether s needs no quotes. Clients have always been
// allowed more dots than the grammar has, which loose says to allow.
func isDotString(s string, loose bool) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" && !loose {
			return false
		}
		for i := range len(atom) {
			if c := atom[i]; c < utf8.RuneSelf && !consists(atom[i:i+1], localPartMarks) {
				return false
			}
		}
	}
	return s != ""
}

// Unquote returns a local part without its quotes, if it has them.
func Unquote(s string) (plain string, quoted bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s, false
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

var quoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// Quote returns a local part with quotes, if it needs them.
func Quote(plain string) string {
	if isDotString(plain, false) {
		return plain
	}
	return `"` + quoter.Replace(plain) + `"`
}

// SplitUser cuts the sub-address off a local part. In a quoted one it is within
// the quotes: a user's name keeps them only if it needs them, and a
// sub-address, which is no local part, has none.
func SplitUser(local string, delim byte) (name, sub string) {
	plain, quoted := Unquote(local)
	name, sub, _ = strings.Cut(plain, string(rune(delim)))
	if quoted {
		name = Quote(name)
	}
	return name, sub
}

// ForRules returns an address as rules and filters see it. They know sub-addresses
// by the delimiter alone, so one within quotes is shown without them: what is
// said of alice holds for "alice+my tag", too, which is delivered to her.
func ForRules(a engine.Address, delim byte) engine.Address {
	if name, sub := SplitUser(a.User, delim); a.User != name && a.User[0] == '"' {
		a.User = name + string(rune(delim)) + sub
	}
	return a
}
