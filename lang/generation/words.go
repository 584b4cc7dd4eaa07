package generation

import (
	"strings"

	"smtpd/ast/old"
)

// reservedWords are the words that a dialect does not take for a name. They
// matter where a name may be absent: elsewhere a word is what the grammar
// expects.
var reservedWords = map[string]map[string]bool{
	"1B": words(`accept alias all auth certificate config db deliver dns domain enable external file for from hash hostname
		include interval list listen local maildir map mbox mda network on port queue reject relay single smtps source ssl
		tag tls to type user via virtual as expire backup size plain compress`),
	"1E": words(`accept alias any as auth auth-optional backup certificate compression db deliver domain expire file filter
		for from hash hostname include key ldap list listen local maildir map mbox mda on plain port queue reject relay
		single size smtps source ssl tag tls tls-require to via virtual all`),
	"2A": words(`accept alias any as auth auth-optional backup bounce-warn certificate deliver domain expire filter for from
		helo hostname include key listen local maildir max-message-size mbox mda on port queue reject relay sender smtps
		source ssl table tag tagged tls tls-require to userbase via virtual compression encryption inet4 inet6 limit lmtp
		mta all`),
	"2B": words(`accept alias any as auth auth-optional authenticated backup bounce-warn ca certificate ciphers compression
		deliver dhe domain encryption expire filter for forward-only from hostname hostnames include inet4 inet6 key limit
		listen lmtp local maildir mask-source masquerade max-message-size max-mta-deferred mbox mda mta no-dsn on pki port
		queue rcpt-to received-auth recipient reject relay scheduler sender senders session smtps socket source
		subaddressing-delimiter table tag tagged tls tls-require to userbase verify via virtual secure ssl helo all
		dsn-notify dsn-ret dhparams`),
}

func words(list string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range strings.Fields(list) {
		m[w] = true
	}
	return m
}

// reserved reports whether w is a keyword of the dialect, or of one near it:
// published files mix them.
func reserved(d old.Dialect, w string) bool {
	switch {
	case d < old.D1E:
		return reservedWords["1B"][w]
	case d == old.D1E:
		return reservedWords["1E"][w]
	case d < old.D541:
		return reservedWords["2A"][w]
	}
	return reservedWords["2B"][w]
}
