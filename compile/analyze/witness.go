package analyze

import (
	"fmt"
	"strings"

	"smtpd/compile/engine"
)

// Dialogue returns the client's side of the SMTP session that shows a
// witness. It can be pasted, one line after each reply.
func (w *Witness) Dialogue() string {
	tx := &w.Transaction
	return fmt.Sprintf("EHLO %s\nMAIL FROM:<%s>\nRCPT TO:<%s>\nQUIT\n", tx.Helo, path(tx.Sender), path(tx.Rcpt))
}

// path returns an address as a command has it: RFC 5321, section 4.1.2.
func path(a engine.Address) string {
	if a == (engine.Address{}) {
		return ""
	}
	atom := func(c rune) bool {
		return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~.", c)
	}
	if strings.IndexFunc(a.User, func(c rune) bool { return !atom(c) }) < 0 && a.User != "" &&
		a.User[0] != '.' && !strings.HasSuffix(a.User, ".") && !strings.Contains(a.User, "..") {
		return a.String()
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a.User) + `"@` + a.Domain
}
