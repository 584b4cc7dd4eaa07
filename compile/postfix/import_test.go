package postfix_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/compile/hostfacts"
	"smtpd/compile/postfix"
	"smtpd/lang"
	"smtpd/lang/diag"
)

var update = flag.Bool("update", false, "rewrite the golden archives")

// A setup is the files of a directory, by name. Those whose name begins with
// mail/ are made by whoever reads the remarks, in /etc/mail.
type setup map[string][]byte

func (s setup) read(name string) ([]byte, error) {
	if text, ok := s[strings.TrimPrefix(name, "etc/")]; ok {
		return text, nil
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

func imported(t testing.TB, s setup) *postfix.Result {
	t.Helper()
	r, err := postfix.Import(postfix.Options{Dir: "etc", ReadFile: s.read, Host: hostfacts.Unnamed()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rules compiles a text on the host that a set-up is of: it has a name, the
// files of the set-up, and nothing else is known of it.
func rules(t testing.TB, text []byte, s setup) (*compile.Ruleset, error) {
	t.Helper()
	facts := "name mx.example.org\n"
	for name := range s {
		dir := "/etc/postfix/"
		if strings.HasPrefix(name, "mail/") {
			dir = "/etc/"
		}
		facts += "file " + dir + name + " " + name + "\n"
	}
	if text, ok := s["aliases"]; ok && len(text) > 0 {
		facts += "file /etc/aliases aliases\n"
	}
	host, err := hostfacts.Parse("facts", facts, s.read)
	if err != nil {
		t.Fatal(err)
	}
	f, list := lang.Parse("smtpd.conf", lang.Options{Text: text})
	rs, more := compile.Draft(f, host)
	for _, d := range append(list, more...) {
		if d.Class == diag.Language {
			return nil, d
		}
	}
	if rs == nil {
		return nil, errors.New("no rule table")
	}
	return rs, nil
}

// TestGolden imports each set-up of testdata: the result must be as it
// stands there, must compile, must relay for no stranger, and must decide as
// Postfix does.
func TestGolden(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) < 11 {
		t.Fatalf("%d archives: %v", len(archives), err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files := make(setup)
			for _, f := range archive.Files {
				files[f.Name] = f.Data
			}
			r := imported(t, files)
			text, err := lang.Format("smtpd.conf", r.Text)
			if err != nil {
				t.Fatalf("%v\n%s", err, r.Text)
			}
			var remarks bytes.Buffer
			for _, d := range r.Notes {
				fmt.Fprintf(&remarks, "%s:%d: %s[%s]: %s\n", path.Base(d.Span.Start.Filename), d.Span.Start.Line, d.Class, d.Code, d.Message)
			}
			for _, want := range []struct {
				name string
				got  []byte
			}{{"smtpd.conf", text}, {"remarks", remarks.Bytes()}} {
				if *update {
					put(archive, want.name, want.got)
				} else if !bytes.Equal(files[want.name], want.got) {
					t.Errorf("%s:\n%s\nwant:\n%s", want.name, want.got, files[want.name])
				}
			}
			if *update {
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			rs, err := rules(t, text, files)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if v := analyze.Relay(rs, analyze.RelayOptions{}).Verdict; v != analyze.Proved {
				t.Errorf("that no stranger relays is %v\n%s", v, text)
			}
			decisions(t, rs, string(files["decisions"]))
		})
	}
}

func put(a *txtar.Archive, name string, data []byte) {
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	if i < 0 {
		a.Files = append(a.Files, txtar.File{Name: name})
		i = len(a.Files) - 1
	}
	a.Files[i].Data = data
}

// decisions holds what the rules decide against lines of
//
//	SOURCE[/USER] [port PORT | tag TAG] [from SENDER] RECIPIENT: OUTCOME
//
// where the source is socket, internal or an address, and the outcome reject
// or what is done.
func decisions(t *testing.T, rs *compile.Ruleset, text string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(text) {
		given, want, ok := strings.Cut(strings.TrimSpace(line), ": ")
		words := strings.Fields(given)
		if !ok || len(words) < 2 {
			t.Fatalf("bad line %q", line)
		}
		n++
		source, user, auth := strings.Cut(words[0], "/")
		tx := &engine.Transaction{Kind: engine.FromAddress, Auth: auth, User: user, Helo: "client.example", Sender: engine.Address{User: "s", Domain: "sender.example"}}
		tx.Rcpt = address(words[len(words)-1])
		switch source {
		case "socket":
			tx.Kind, tx.Auth = engine.FromSocket, true
		case "internal":
			tx.Kind = engine.FromInternal
		default:
			tx.Addr = netip.MustParseAddr(source)
		}
		port, tag := "25", ""
		for i, w := range words[:len(words)-1] {
			switch w {
			case "port":
				port = words[i+1]
			case "tag":
				tag = words[i+1]
			case "from":
				tx.Sender = address(words[i+1])
			}
		}
		for _, l := range rs.Listeners {
			if fmt.Sprint(l.Port) == port && tx.Kind != engine.FromSocket {
				tx.Tag = l.Tag
			}
		}
		if tag != "" {
			tx.Tag = tag
		}
		d := engine.New(rs).Decide(context.Background(), tx, nil)
		if got := outcome(rs, d); got != want {
			t.Errorf("%s: got %s, want %s", given, got, want)
		}
	}
	if n == 0 {
		t.Error("no decisions")
	}
}

// outcome says in short what is decided.
func outcome(rs *compile.Ruleset, d engine.Decision) string {
	if d.Outcome != engine.Accept {
		if d.Err != nil {
			return d.Err.Error()
		}
		return "reject"
	}
	return rs.Action(rs.Rules[d.Rule].Action).Name
}

func address(text string) engine.Address {
	at := strings.LastIndexByte(text, '@')
	return engine.Address{User: text[:at], Domain: text[at+1:]}
}
