package analyze

import (
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/ere"
)

// FuzzExpression states that an entry of a table matches what its expression
// is found in.
func FuzzExpression(f *testing.F) {
	f.Add("*.example.org", "a.example.org", true)
	f.Add("m*]*.^x*", "mail].^xy", true)
	f.Add("bob+x@*a.z", "bob+x@xa.z", false)
	f.Add("bob@", "bob+tag@b", false)
	f.Add("@", "a@b", false)
	f.Fuzz(func(t *testing.T, entry, text string, isDomain bool) {
		entry, text = fold(entry), fold(text)
		at := strings.LastIndexByte(text, '@')
		part, service := engine.PartMailFrom, engine.MailAddr
		if isDomain {
			part, service = engine.PartHelo, engine.Domain
		}
		if len(entry) > 100 || len(text) > 100 || !isDomain && (at < 1 || at == len(text)-1) || text == "" {
			return
		}
		re, err := ere.Compile("^" + expression(part, entry, '+') + "$")
		if err != nil {
			t.Fatalf("%q became %q: %v", entry, expression(part, entry, '+'), err)
		}
		table := engine.NewStatic(&compile.Table{Entries: []compile.Entry{{Key: entry}}}, '+')
		want, err := table.Check(service, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := re.MatchString(text); got != want {
			t.Fatalf("entry %q, text %q: the expression %q says %v, the table %v", entry, text, expression(part, entry, '+'), got, want)
		}
	})
}
