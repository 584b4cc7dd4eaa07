package expand

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

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
		if got := s.verdict(t, rcpt); got != want {
			t.Errorf("%s:\ngot:\n%s\nwant:\n%s", rcpt, got, want)
		} else if differs && got == real[rcpt] {
			t.Errorf("%s is no difference any more", rcpt)
		}
	}
}

// verdict is what expand returns in the form of the archive.
func (s *scene) verdict(t *testing.T, rcpt string) string {
	lines := strings.Split(s.expand(t, rcpt), "\n")
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
