package compile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lang/diag"
)

// A sealedHost has a file that is the private key of the test.
type sealedHost struct {
	*hostfacts.Host
	t    *testing.T
	key  compile.File
	gone bool
}

const sealedKey = "/etc/ssl/private/mx.key"

func (h sealedHost) ReadFile(path string) (compile.File, error) {
	if path == sealedKey {
		h.t.Error("the private key is read")
	}
	return compile.File{Mode: 0o644}, nil
}

func (h sealedHost) StatKey(path string) (compile.File, error) {
	if path != sealedKey || h.gone {
		return compile.File{}, fs.ErrNotExist
	}
	return h.key, nil
}

// TestKeyHost compiles for a process that must not see private keys: their
// files are judged without being read.
func TestKeyHost(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "smtpd.conf")
	text := `pki "mx" cert "/etc/ssl/mx.crt"
pki "mx" key "` + sealedKey + `"
action "a" maildir
match for local action "a"
`
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	facts, err := hostfacts.Parse("facts", "name mail.example.org\n", os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		host sealedHost
		want string
	}{
		{sealedHost{key: compile.File{Mode: 0o640}}, ""},
		{sealedHost{key: compile.File{Mode: 0o644}}, "has mode 0644, at most 0740 is safe"},
		{sealedHost{key: compile.File{Mode: 0o600, UID: 1000}}, "belongs to uid 1000, not to root"},
		{sealedHost{gone: true}, "mx.key"},
	} {
		test.host.Host, test.host.t = facts, t
		f, parsed := lang.Parse(conf, lang.Options{})
		_, compiled := compile.Compile(f, test.host)
		list := diag.Merge(f.Set, parsed, compiled)
		if list.Has(diag.Host) != (test.want != "") || len(list) > 0 && !strings.Contains(list[0].Message, test.want) {
			t.Errorf("want %q, got %v", test.want, list)
		}
	}
}
