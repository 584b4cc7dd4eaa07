package expand

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tablefile"
)

// TestRecorded compares with what OpenSMTPD did with the same aliases and
// .forward files. Each difference is listed in the archive with its reason,
// and one that is none any more is an error too.
func TestRecorded(t *testing.T) {
	ar, err := txtar.ParseFile("testdata/opensmtpd68.txtar")
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{users: []string{"nobody", "daemon", "bin", "n1", "n2"}, forwards: make(map[string]string), includes: make(map[string]string)}
	var real, ours map[string]string
	var order []string
	for _, f := range ar.Files {
		switch name, text := f.Name, string(f.Data); {
		case name == "aliases":
			s.aliases = mapping(t, f)
		case name == "virtual":
			s.virtual = mapping(t, f)
		case name == "real":
			real, order = verdicts(text)
		case name == "ours":
			ours, _ = verdicts(text)
		case strings.HasPrefix(name, "forward/"):
			user := strings.TrimPrefix(name, "forward/")
			s.users = append(s.users, user)
			s.forwards[user] = text
		default:
			s.includes[name] = text
		}
	}
	if len(order) < 90 {
		t.Fatalf("%d recipients", len(order))
	}
	for rcpt := range ours {
		if _, ok := real[rcpt]; !ok {
			t.Errorf("%s is in ours alone", rcpt)
		}
	}
	for _, rcpt := range order {
		want, differs := ours[rcpt]
		if !differs {
			want = real[rcpt]
		}
		got := verdict(s.expand(t, rcpt))
		if got != want {
			t.Errorf("%s:\ngot:\n%s\nwant:\n%s", rcpt, got, want)
		} else if differs && got == real[rcpt] {
			t.Errorf("%s is no difference any more", rcpt)
		}
		// What is at hand, as smtpd-check has it, leads to the same.
		w := s.atHand()
		if same := verdict(outcome(t, &Expansion{World: w, Rules: w.Rules}, rcpt)); same != got {
			t.Errorf("%s: at hand it is\n%s\nnot\n%s", rcpt, same, got)
		}
	}
}

// atHand returns the scene as tables and copies of files.
func (s *scene) atHand() *AtHand {
	rs := sceneRules()
	for i, m := range []map[string]string{s.aliases, s.virtual} {
		rs.Tables[i].Kind, rs.Tables[i].Entries = compile.Mapping, entries(m)
	}
	accounts := make(map[string]string)
	for i, u := range s.users {
		accounts[u] = fmt.Sprintf("%d:%d:/home/%s", 1000+i, 1000+i, u)
		if strings.HasPrefix(u, "root") {
			accounts[u] = "0:0:/root"
		}
	}
	return &AtHand{
		Rules: rs, Transaction: new(engine.Transaction), Decider: sceneDecider{s}, Forwards: s.forwards,
		Accounts: &compile.Table{Kind: compile.Mapping, Entries: entries(accounts)},
		File: func(path string) (string, bool, error) {
			text, ok := s.includes[path]
			return text, ok, nil
		},
	}
}

func entries(m map[string]string) []compile.Entry {
	var list []compile.Entry
	for key, value := range m {
		list = append(list, compile.Entry{Key: key, Value: value})
	}
	return tablefile.Normalize(list)
}

// A sceneDecider decides as a scene does.
type sceneDecider struct{ *scene }

func (d sceneDecider) Decide(ctx context.Context, tx *engine.Transaction, _ engine.Lookups) engine.Decision {
	return d.scene.Decide(ctx, tx.Rcpt, tx.Kind == engine.FromInternal)
}

// verdict is what expand returns in the form of the archive.
func verdict(result string) string {
	lines := strings.Split(result, "\n")
	for i, line := range lines {
		if line[0] != '4' && line[0] != '5' {
			_, lines[i], _ = strings.Cut(line, " ") // without the action
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// verdicts reads recipients and the lines below each; # starts a comment.
func verdicts(text string) (map[string]string, []string) {
	all := make(map[string]string)
	var order []string
	var rcpt string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		result, ok := strings.CutPrefix(line, "\t")
		switch {
		case strings.HasPrefix(line, "#") || line == "":
		case !ok:
			rcpt = line
			order = append(order, rcpt)
		case all[rcpt] == "":
			all[rcpt] = result
		default:
			all[rcpt] += "\n" + result
		}
	}
	return all, order
}

func mapping(t *testing.T, f txtar.File) map[string]string {
	t.Helper()
	_, entries, err := tablefile.Parse(f.Name, f.Data)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]string)
	for _, e := range entries {
		m[e.Key] = e.Value
	}
	return m
}
