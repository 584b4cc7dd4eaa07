package compile_test

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lang/diag"
)

// caseHost is the machine on which the verdicts in testdata/language were
// recorded: nothing but a loopback interface, and its files belong to root.
type caseHost struct{ *hostfacts.Host }

// ReadFile reads the files of the cases themselves. Version control does not
// keep owner and mode, so they are what the cases say they are.
func (caseHost) ReadFile(path string) (compile.File, error) {
	data, err := os.ReadFile(path)
	return compile.File{Data: data, Mode: 0o600}, err
}

// TestRecordedVerdicts holds verdict and line of the first error against
// those of OpenSMTPD 7.8.
func TestRecordedVerdicts(t *testing.T) {
	t.Chdir("../testdata/language")
	host, err := hostfacts.Parse("facts", "name mail.example.org\n", os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	rows := table(t, "verdicts.tsv")
	if len(rows) < 250 {
		t.Fatalf("only %d cases", len(rows))
	}
	for _, row := range rows {
		name, verdict, line := row[0], row[1], row[2]
		t.Run(name, func(t *testing.T) {
			f, parsed := lang.Parse(name, lang.Options{})
			rs, compiled := compile.Compile(f, caseHost{host})
			list := diag.Merge(f.Set, parsed, compiled)
			got := "valid"
			// The word stdin is a key for the check alone; cmd/smtpd adds that.
			if rs == nil || list.Has(diag.Language) || rs.Queue.KeyFromInput() {
				got = "invalid"
			}
			if got != verdict {
				t.Fatalf("%s, recorded is %s; found %v", got, verdict, list)
			}
			if got := firstLine(list); got != line {
				t.Errorf("first error on line %s, recorded is %s; found %v", got, line, list)
			}
		})
	}
}

// firstLine returns the line of the first error that has a place in the
// original, with its file if that is an included one, or "-".
func firstLine(list diag.List) string {
	for _, d := range list {
		if d.Class > diag.Host || d.Fatal || !d.Span.Start.IsValid() {
			continue
		}
		p := d.Span.Start
		if d.Seen.IsValid() {
			p = d.Seen
		}
		if strings.HasSuffix(p.Filename, ".inc") && strings.Contains(p.Filename, "/") {
			return p.Filename + ":" + strconv.Itoa(p.Line)
		}
		return strconv.Itoa(p.Line)
	}
	return "-"
}

// table returns the rows of a file of tab-separated columns.
func table(t *testing.T, name string) [][]string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		rows = append(rows, strings.Split(s.Text(), "\t"))
	}
	return rows
}

// TestCorpus holds the verdict on real configurations against that of
// OpenSMTPD 7.8 on a host that has all they need, and checks that a rule
// table survives being sent.
func TestCorpus(t *testing.T) {
	const dir = "../../shared/corpus"
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the corpus of real configurations is not here: %v", err)
	}
	rows := table(t, filepath.Join(dir, "INDEX.tsv"))
	column := make(map[string]int)
	for i, name := range rows[0] {
		column[name] = i
	}
	for _, row := range rows[1:] {
		if row[column["generation"]] != "3" {
			continue
		}
		accepted := strings.Contains(row[column["accepted_by_with_stubbed_environment"]], "7.8")
		t.Run(row[0], func(t *testing.T) {
			f, parsed := lang.Parse(filepath.Join(dir, row[0]), lang.Options{})
			rs, compiled := compile.Draft(f, hostfacts.Unnamed())
			good := rs != nil && !parsed.Has(diag.Language)
			if good != accepted {
				t.Errorf("good %v, recorded is %v; found %v", good, accepted, diag.Merge(f.Set, parsed, compiled))
			}
			if rs != nil {
				checkTrip(t, rs)
			}
		})
	}
}

// TestTableFileNUL checks that a NUL byte in the file of a table is no
// mistake, and is told.
func TestTableFileNUL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t")
	if err := os.WriteFile(path, []byte("a\nb\x00: c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, parsed := parse("c", lang.Options{Text: []byte("table t file:" + path + "\nmatch for domain <t> reject\n")})
	rs, list := compile.Compile(f, caseHost{hostfacts.Unnamed()})
	if rs == nil || len(parsed) > 0 || len(list) != 1 || list[0].Class != diag.Warning || !strings.Contains(list[0].Message, "line 2 of "+path) {
		t.Errorf("%v %v, want a warning of line 2", parsed, list)
	}
}

// TestErrorLines holds the line of the first error against what OpenSMTPD
// said of statements that are spread over lines: it notices some mistakes
// only at the token that follows.
func TestErrorLines(t *testing.T) {
	tests := []struct {
		conf string
		line string
	}{
		{"action \\\n a \\\n mbox \\\n user \\\n bob \\\n\nmatch reject\n", "5"},
		{"listen on \\\n lo \\\n tag a \\\n tag \\\n b \\\n port 26\nmatch reject\n", "5"},
		{"listen on \\\n lo auth\\\n\\\n auth \\\n\\\n port 26\nmatch reject\n", "6"},
		{"action a mbox\naction \\\n a \\\n mbox \\\n\nmatch reject\n", "3"},
		{"table t \\\n file:/nonexist \\\n\\\n\nmatch reject\n", "2"},
		{"match for any \\\n action \\\n \"x\" \\\n\n", "3"},
		{"filter f phase connect match rdns junk\nfilter \\\n f \\\n phase connect \\\n match rdns junk\nmatch reject\n", "4"},
		{"match from auth \\\n auth \\\n\\\n reject\n", "4"},
		{"filter f phase connect match rdns junk\nfilter f \\\n chain \\\n { f }\nmatch reject\n", "3"},
		{"filter f phase connect match rdns junk\nfilter f \\\n phase \\\n connect match rdns junk\nmatch reject\n", "3"},
		{"filter f phase connect match rdns junk\nfilter f \\\n phase \\\n commitment\nmatch reject\n", "3"},
		{"filter f phase connect match rdns junk\nfilter f \\\n chain \\\n f\nmatch reject\n", "3"},
		{"match tls ! tls\\\n\n", "1"},
		{"\"a b\" = \\\n c\nmatch reject\n", "2"},
		{"match for any for local \\\n foo\n", "1"},
		{"match from src <no> \\\n for domian x reject\n", "1"},
		{"match from any \\\n for any \\\n action x \\\n foo\n", "3"},
		{"action a relay host x \\\n host y \\\n = z\nmatch reject\n", "2"},
		{"action a maildir alias \"x\ny\" \\\n\nmatch reject\n", "1"},
		{"listen on lo tag a \\\n tag b \\\n hostname\nmatch reject\n", "2"},
		{"listen on lo filter { a \n b = }\nmatch reject\n", "1"},
		{"filter f chain { \"x\" \\\n = y }\nmatch reject\n", "1"},
		{"filter f phase connect match \\\n src <no> \\\n accept\nmatch reject\n", "2"},
		{"proc p c user a \\\n user b \\\n group\nmatch reject\n", "2"},
		{"bounce warn-interval 1h, 1w, \\\n \nmatch reject\n", "1"},
		{"mda limit max-love 5 \\\n max-session x\nmatch reject\n", "1"},
		{"pki a dhe x \\\n cert\nmatch reject\n", "1"},
		{"ca *.x \\\n key y\nmatch reject\n", "1"},
		{"table t { a \n b \n c \\\n = d }\nmatch reject\n", "4"},
		{"table t { a = b \n c \n d }\nmatch reject\n", "2"},
		{"table t { a = b, c \n\n }\nmatch reject\n", "1"},
		{"table t { a = \nmatch reject\n", "1"},
		{"table t { a = b, c \nmatch reject\n", "1"},
		{"table t { a = b, c = d \nmatch reject\n", "2"},
	}
	for _, tt := range tests {
		f, list := parse("c", lang.Options{Text: []byte(tt.conf)})
		_, compiled := compile.Compile(f, hostfacts.Unnamed())
		if got := firstLine(diag.Merge(f.Set, list, compiled)); got != tt.line {
			t.Errorf("first error on line %s, recorded is %s:\n%s", got, tt.line, tt.conf)
		}
	}
}

// TestBrokenStatement checks that a statement which breaks off is judged as
// far as it goes, and that what may be in the rest is not missed.
func TestBrokenStatement(t *testing.T) {
	tests := []struct{ conf, want string }{
		{"match from src <no> for domian x action y", "undefined-table syntax"},
		{"match for any for local", "repeated-option syntax"},
		{"match for any action x reject", "undefined-action syntax"},
		{"action a relay auth <m> tls host <n> (", "missing-host undefined-table undefined-table syntax"},
		{"action a mbox user bob (", "conflicting-options syntax"},
		{"action a mbox (\naction a mbox", "syntax"}, // the first may be another
		{"action a (\nmatch action a", "syntax"},
		{"listen on nosuchif0 tls pk x", "syntax"}, // what is missing may be the misspelt word
		{"listen on socket tag a tag b (\nlisten on socket", "repeated-option syntax"},
		{"listen on lo filter { x, y", "undefined-filter undefined-filter unclosed-brace"},
		{"filter f chain { x = y }", "pair-in-chain undefined-filter"},
		{"filter f phase connect match src <no> jun", "undefined-table syntax"},
		{"filter f phase connect match junk", "syntax"},
		{"filter f proc p (", "undefined-proc syntax"},
		{"pki '*.x' cert", "bad-pki-name syntax"},
		{"pki a cert c key", "syntax"},
		{"ca '*.x'", "bad-ca-name syntax"},
		{"proc p c user a user b (", "repeated-option syntax"},
		{"bounce warn-interval 1w, 1x,", "bad-delay bad-delay syntax"},
		{"smtp limit max-love 1 max-mails x", "unknown-limit syntax"},
		{"smtp max-message-size", "syntax"},
		{"mta limit for domain", "syntax"},
		{"mta limit nothing 1 x", "unknown-limit syntax"},
		{"queue encryption short (", "syntax"},
		{"queue ttl 1w (", "bad-delay syntax"},
		{"table t file:relative (", "table-spec syntax"},
		{"table t { a", "unclosed-brace"},
		{"admd \"\x7f\" (", "bad-admd syntax"},
		{"include", "syntax"},
		{"x =", "syntax"},
	}
	for _, tt := range tests {
		f, parsed := parse("c", lang.Options{Text: []byte(tt.conf + "\nmatch reject\n")})
		_, compiled := compile.Compile(f, hostfacts.Unnamed())
		var codes []string
		for _, d := range diag.Merge(f.Set, parsed, compiled) {
			codes = append(codes, string(d.Code))
		}
		if got := strings.Join(codes, " "); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.conf, got, tt.want)
		}
	}
}
