package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lang/diag"
)

// recorded is the machine on which the decisions of the pairs were taken.
const recorded = "name mx.recorded.invalid\ninterface lo 127.0.0.1 ::1\n"

func recordedHost(t testing.TB) compile.Host {
	t.Helper()
	host, err := hostfacts.Parse("facts", recorded, nil)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// converted converts a text, which must be possible.
func converted(t testing.TB, name string, text []byte, host compile.Host) *migration {
	t.Helper()
	m := &migration{name: name, text: text, host: host}
	if err := m.convert(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(m.texts) == 0 || m.report.List.Has(diag.Language) {
		t.Fatalf("%s is not converted: %v\n%s", name, m.report.List, text)
	}
	return m
}

// rulesOf compiles a text of the present language.
func rulesOf(t testing.TB, name string, text []byte, host compile.Host) *compile.Ruleset {
	t.Helper()
	f, list := lang.Parse(name, lang.Options{Text: text})
	rs, more := compile.Draft(f, host)
	if rs == nil || list.Has(diag.Language) {
		t.Fatalf("%s: %v\n%s", name, append(list, more...), text)
	}
	return rs
}

// TestMigratePairs converts the old side of each pair: the result must mean
// the same as the present side, and both it and the table of the old file
// must decide every envelope as the programs of their time did.
func TestMigratePairs(t *testing.T) {
	pairs, err := filepath.Glob("../../testdata/migration/*")
	if err != nil || len(pairs) == 0 {
		t.Fatalf("no pairs: %v", err)
	}
	for _, dir := range pairs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			host := recordedHost(t)
			text, err := os.ReadFile(filepath.Join(dir, "old.conf"))
			if err != nil {
				t.Fatal(err)
			}
			m := converted(t, "old.conf", text, host)
			result := rulesOf(t, "old.conf", m.texts[0].Data, host)
			present, err := os.ReadFile(filepath.Join(dir, "new.conf"))
			if err != nil {
				t.Fatal(err)
			}
			if d := analyze.Diff(rulesOf(t, "new.conf", present, host), result); d.Verdict != analyze.Proved {
				t.Errorf("another meaning than new.conf: %+v\n%s", d, m.texts[0].Data)
			}
			if m.old != nil && m.diff.Verdict != analyze.Proved {
				t.Errorf("another meaning than old.conf: %+v\n%s", m.diff, m.texts[0].Data)
			}
			for _, e := range envelopes(t, filepath.Join(dir, "envelopes.tsv")) {
				e.check(t, m, result)
			}
		})
	}
}

// An envelope is one line of envelopes.tsv.
type envelope struct {
	source, tls, user, helo, sender, rcpt, want string
}

func envelopes(t *testing.T, path string) []envelope {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma = '\t'
	rows, err := r.ReadAll()
	if err != nil || len(rows) == 0 {
		t.Fatalf("%s: %v", path, err)
	}
	var list []envelope
	for _, row := range rows {
		list = append(list, envelope{row[0], row[1], row[2], row[3], row[4], row[5], row[6]})
	}
	return list
}

// transaction returns the envelope as it comes through a listener with a tag.
func (e *envelope) transaction(t testing.TB, network, socket string) *engine.Transaction {
	t.Helper()
	tx := &engine.Transaction{
		Kind: engine.FromAddress, Tag: network, RDNS: "client.invalid", TLS: e.tls == "y", Helo: e.helo,
		Sender: address(strings.TrimPrefix(e.sender, "-")), Rcpt: address(e.rcpt),
	}
	if e.user != "-" {
		tx.Auth, tx.User = true, e.user
	}
	switch e.source {
	case "socket":
		tx.Kind, tx.Tag, tx.Auth = engine.FromSocket, socket, true
	case "local":
		tx.Addr = netip.MustParseAddr("127.0.0.1")
	default:
		tx.Addr = netip.MustParseAddr(e.source)
	}
	return tx
}

// check decides an envelope by the result and by the table of the old file.
func (e *envelope) check(t *testing.T, m *migration, result *compile.Ruleset) {
	t.Helper()
	tx := e.transaction(t, result.Listeners[0].Tag, result.Socket.Tag)
	d := engine.New(result).Decide(context.Background(), tx, nil)
	if got := outcomeOf(result, d); got != e.want {
		t.Errorf("the result: %+v: %s\n%s", *e, got, m.texts[0].Data)
	}
	if m.old == nil {
		return
	}
	tx = e.transaction(t, oldTag(m), "local")
	d = engine.NewLinear(m.before).Decide(context.Background(), tx, nil)
	if got := outcomeOf(m.before, d); got != e.want {
		t.Errorf("the old file: %+v: %s", *e, got)
	}
}

// oldTag returns the tag of the first listener of the old file.
func oldTag(m *migration) string {
	for _, s := range m.old.Stmts {
		if l := s.Listen; l != nil && !l.Socket {
			if l.Tag == nil && m.guess.Generation == 1 {
				return l.On.Text
			} else if l.Tag != nil {
				return l.Tag.Text
			}
			return ""
		}
	}
	return ""
}

// outcomeOf names a decision as envelopes.tsv does.
func outcomeOf(rs *compile.Ruleset, d engine.Decision) string {
	if d.Outcome != engine.Accept {
		return "reject"
	}
	a := rs.Action(rs.Rules[d.Rule].Action)
	switch {
	case a.Relay.Backup:
		return "accept:relay-backup"
	case a.Relay.Host != 0:
		host := rs.Table(a.Relay.Host).Entries[0].Key
		host = host[strings.Index(host, "://")+3:]
		host = host[strings.IndexByte(host, '@')+1:]
		host, _, _ = strings.Cut(host, ":")
		return "accept:relay-via " + host
	}
	return "accept:" + a.Method.String()
}

// TestMigrateReadsTables converts for a host whose tables can be read, a
// database among them: what depends on their entries is known then.
func TestMigrateReadsTables(t *testing.T) {
	database, err := os.ReadFile("../../compile/tablefile/hashdb/testdata/small.db") // abuse, postmaster
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"db": database, "list": []byte("192.0.2.0/24\nlocal\n"), "senders": []byte("@a.example\n@b.example\n")}
	host, err := hostfacts.Parse("facts", recorded+"file /m.db db\nfile /nets list\nfile /senders senders\n", func(name string) ([]byte, error) {
		return files[name], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const conf = `table sources db:/m.db
table nets file:/nets
table from "/senders"
pki x certificate "/c" key "/k"
listen on lo tls pki x auth
`
	for rule, want := range map[string]string{
		"accept from source <sources> for any relay":     "match !auth from src <sources> for any action \"relay\"\n",
		"accept from source <nets> for any relay":        "match from src <nets> for any action \"relay\"\nmatch auth from any for any action \"relay\"\n",
		"accept sender <sources> for any relay":          "match from local mail-from <sources> for any",
		"accept from any sender ! <from> for any relay ": "match from any !mail-from <\"from\"> for any action \"relay\"\n",
	} {
		m := converted(t, "smtpd.conf", []byte(conf+rule+"\n"), host)
		if got := string(m.texts[0].Data); !strings.Contains(got, want) {
			t.Errorf("%s: %s\nis not in\n%s", rule, want, got)
		}
		for _, d := range m.report.List {
			if d.Code == "migrate-table-unread" {
				t.Errorf("%s: %v", rule, d)
			}
		}
		entries := slices.ContainsFunc(m.report.List, func(d *diag.Diagnostic) bool { return d.Code == "migrate-entry" })
		if strings.Contains(rule, "sender <sources>") != entries {
			t.Errorf("%s: %v", rule, m.report.List)
		}
	}
}

// corpus lists the files of the public corpus that some release took, by
// generation.
func corpus(t *testing.T, generations ...string) []string {
	t.Helper()
	const dir = "../../../shared/corpus"
	f, err := os.Open(filepath.Join(dir, "INDEX.tsv"))
	if err != nil {
		t.Skipf("the public corpus is not beside the repository: %v", err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, row := range rows[1:] {
		if slices.Contains(generations, row[5]) && row[13] != "none" && (row[5] != "3" || strings.Contains(row[13], "7.8")) {
			list = append(list, filepath.Join(dir, row[0]))
		}
	}
	return list
}

// TestMigrateCorpus converts every old file of the corpus that some release
// took, and proves at least 95 in 100 of the results equal.
func TestMigrateCorpus(t *testing.T) {
	files := corpus(t, "1", "2")
	proved := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m := converted(t, path, text, hostfacts.Unnamed())
		if m.diff != nil && m.diff.Verdict == analyze.Proved {
			proved++
		} else {
			t.Logf("%s: %s: %v", path, m.proof(), m.report.List)
		}
		again := converted(t, path, m.texts[0].Data, hostfacts.Unnamed())
		if !bytes.Equal(again.texts[0].Data, m.texts[0].Data) {
			t.Errorf("%s: the result is not what it is converted to:\n%s", path, again.texts[0].Data)
		}
	}
	t.Logf("%d of %d proved", proved, len(files))
	if 100*proved < 95*len(files) {
		t.Errorf("only %d of %d are proved to decide the same", proved, len(files))
	}
}

// TestMigrateIdentity checks that a file of the present language stays as it
// is, but for its layout.
func TestMigrateIdentity(t *testing.T) {
	files, err := filepath.Glob("../../testdata/decisions/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no configurations: %v", err)
	}
	if _, err := os.Stat("../../../shared/corpus"); err == nil {
		files = append(files, corpus(t, "3")...)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := lang.Format(path, text)
		if err != nil {
			t.Fatal(err)
		}
		m := converted(t, path, text, hostfacts.Unnamed())
		if !bytes.Equal(m.texts[0].Data, want) || len(m.report.List) > 0 {
			t.Errorf("%s: %v\n%s", path, m.report.List, m.texts[0].Data)
		}
	}
}
