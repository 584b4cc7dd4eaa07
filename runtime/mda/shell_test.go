package mda

import (
	"os/exec"
	"strings"
	"testing"

	"smtpd/runtime/envelope"
)

// TestExpandThroughShell compares what a shell makes of values, in each place
// where a configuration may write them, with what they are: the shell must
// change nothing, run nothing and add no word.
func TestExpandThroughShell(t *testing.T) {
	var script strings.Builder
	var want []string
	for _, user := range nasty {
		for _, place := range []string{`x%V`, `'%V'`, `"%V"`, `"$(printf %%s "%V")"`, "`printf %%s x%V`", `a=%V`} {
			f := testFields()
			f.rcpt = envelope.Address{User: user, Domain: user}
			spec := strings.ReplaceAll(place, "%V", "%{rcpt.user:raw}")
			text, err := f.expand("printf '[%%s]\\n' " + spec)
			if err != nil {
				t.Fatalf("%q in %s: %v", user, place, err)
			}
			script.WriteString(text + "\n")
			want = append(want, "["+shellValue(t, place, spec, f)+"]")
		}
	}
	out, err := exec.Command("/bin/sh", "-c", "cd /nonexistent 2>/dev/null; PATH=/nonexistent\n"+script.String()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d words, want %d:\n%s", len(got), len(want), out)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("the shell made %s, want %s", got[i], want[i])
		}
	}
}

// shellValue returns what stands in place once the shell has taken off the
// configuration's own quotes: computed without a shell, and without expand but
// for the value itself.
func shellValue(t *testing.T, place, spec string, f *fields) string {
	t.Helper()
	text, err := f.expand(spec)
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(place, "%V")
	value := strings.TrimSuffix(strings.TrimPrefix(text, strings.ReplaceAll(before, "%%", "%")), strings.ReplaceAll(after, "%%", "%"))
	for i := 0; i < len(value); i++ {
		if c := value[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("@._+=:,-", c) >= 0) {
			t.Errorf("%q holds %q", value, c)
		}
	}
	switch {
	case strings.HasPrefix(place, "x"), strings.HasPrefix(place, "`"):
		return "x" + value
	case strings.HasPrefix(place, "a="):
		return "a=" + value
	}
	return value
}

// TestExpandCoversOriginal checks that each byte that OpenSMTPD replaces is
// replaced here, with and without raw.
func TestExpandCoversOriginal(t *testing.T) {
	for _, c := range "!#$%&'*?`{}~|" {
		for _, mod := range []string{"", ":raw"} {
			f := testFields()
			f.rcpt.User = "a" + string(c) + "b"
			if got, err := f.expand("%{rcpt.user" + mod + "}"); err != nil || got != "a:b" {
				t.Errorf("%c%s became %q, %v", c, mod, got, err)
			}
		}
	}
}
