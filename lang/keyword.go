package lang

import "strings"

// keywords holds every reserved word of the language. A bare word that is
// one of them is never a string; eight of them have no use in the grammar
// and are reserved all the same.
var keywords = newKeywords(`
	action admd alias any auth auth-optional backup bounce bypass ca cert
	chain chroot ciphers commit compression connect data data-line dhe
	disconnect domain ehlo encryption expand-only fcrdns filter for
	forward-only from group helo helo-src host hostname hostnames include
	inet4 inet6 junk key limit listen lmtp local mail-from maildir mask-src
	masquerade match max-deferred max-message-size mbox mda mta mx no-dsn
	no-verify noop on phase pki port proc proc-exec protocols proxy-v2 queue
	quit rcpt-to rdns received-auth recipient regex reject relay report
	rewrite rset scheduler senders smtp smtp-in smtp-out smtps socket src srs
	sub-addr-delim table tag tagged tls tls-require ttl user userbase verify
	virtual warn-interval wrapper`)

func newKeywords(list string) map[string]string {
	m := make(map[string]string)
	for _, w := range strings.Fields(list) {
		m[w] = w
	}
	return m
}

// Keyword reports whether word is reserved, so that as a name it must be
// quoted.
func Keyword(word string) bool {
	_, ok := keywords[word]
	return ok
}

// opensStatement reports whether keyword w begins a statement.
func opensStatement(w string) bool {
	switch w {
	case "include", "admd", "bounce", "ca", "pki", "mda", "mta", "queue",
		"scheduler", "smtp", "srs", "proc", "filter", "table", "listen",
		"action", "match":
		return true
	}
	return false
}

// Classes of bytes. Those above 0x7f are in none: outside quotes and
// comments the language is ASCII.
const (
	inWord  = 1 << iota // may go on with a word
	inName              // may be in the name of a macro reference
	endsNum             // ends a number
	isQuiet             // may be copied from a quoted string as it is
)

var class = newClasses()

func newClasses() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
		digit := b >= '0' && b <= '9'
		if letter || digit || b == '_' {
			t[c] |= inName
		}
		if b > ' ' && b < 0x7f && !strings.ContainsRune("(){}<>!=#,", rune(b)) {
			t[c] |= inWord
		}
		if strings.IndexByte(" \t\n\v\f\r),/}=", b) >= 0 {
			t[c] |= endsNum
		}
		if b > 2 && b != '\\' && b != '\n' && b != '"' && b != '\'' {
			t[c] |= isQuiet
		}
	}
	return t
}

func is(c int, k uint8) bool { return c >= 0 && class[c]&k != 0 }
