package engine_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
)

// facts are of the machine on which the decisions were recorded.
const facts = "name mx.recorded.invalid\ninterface lo 127.0.0.1 ::1\n"

// load compiles a configuration for that machine. Certificates are not
// there, and make no difference to what is decided.
func load(t *testing.T, path string) *compile.Ruleset {
	t.Helper()
	host, err := hostfacts.Parse("facts", facts, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, list := lang.Parse(path, lang.Options{})
	rs, more := compile.Draft(f, host)
	if rs == nil {
		t.Fatalf("%s: %v", path, append(list, more...))
	}
	return rs
}

// transaction reads the first six columns of a recorded decision.
func transaction(t *testing.T, rs *compile.Ruleset, columns []string) *engine.Transaction {
	t.Helper()
	tx := &engine.Transaction{
		Kind: engine.FromAddress, Tag: rs.Listeners[0].Tag, RDNS: "client.invalid",
		TLS: columns[1] == "y", Helo: columns[3], Sender: address(columns[4]), Rcpt: address(columns[5]),
	}
	if columns[2] != "-" {
		tx.Auth, tx.User = true, columns[2]
	}
	switch columns[0] {
	case "socket":
		tx.Kind, tx.Tag, tx.Auth = engine.FromSocket, rs.Socket.Tag, true
	case "local":
		tx.Addr = netip.MustParseAddr("127.0.0.1")
	default:
		addr, err := netip.ParseAddr(columns[0])
		if err != nil {
			t.Fatal(err)
		}
		tx.Addr = addr
	}
	return tx
}

func address(s string) engine.Address {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return engine.Address{}
	}
	return engine.Address{User: s[:at], Domain: s[at+1:]}
}

// outcome names a decision as the recordings do.
func outcome(rs *compile.Ruleset, d engine.Decision) string {
	switch d.Outcome {
	case engine.TempFail:
		return "tempfail"
	case engine.Reject, engine.NoRule:
		return "reject"
	}
	a := rs.Action(rs.Rules[d.Rule].Action)
	switch {
	case a.Relay.Backup:
		return "relay-backup"
	case a.Relay.Host != 0:
		host := rs.Table(a.Relay.Host).Entries[0].Key
		if i := strings.Index(host, "://"); i >= 0 {
			host = host[i+3:]
		}
		host = host[strings.IndexByte(host, '@')+1:]
		host, _, _ = strings.Cut(host, ":")
		return "relay-via " + host
	}
	return a.Method.String()
}

func engines(rs *compile.Ruleset) map[string]engine.Engine {
	return map[string]engine.Engine{"linear": engine.NewLinear(rs), "indexed": engine.New(rs),
		"7.8": engine.NewLinearWith(rs, engine.OpenSMTPD78)}
}

func rows(t *testing.T, path string) [][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(data)) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
	}
	return rows
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: no files, %v", pattern, err)
	}
	return paths
}

// TestDecisions decides what OpenSMTPD 7.8 decided: the same outcome by the
// same rule, from every engine.
func TestDecisions(t *testing.T) {
	n := 0
	for _, path := range glob(t, "../../testdata/decisions/*.conf") {
		rs := load(t, path)
		for i, row := range rows(t, strings.TrimSuffix(path, ".conf")+".tsv") {
			tx := transaction(t, rs, row)
			if row[6] == "y" {
				tx.Kind = engine.FromInternal
			}
			for name, e := range engines(rs) {
				d := e.Decide(t.Context(), tx, nil)
				if outcome(rs, d) != row[7] || strconv.Itoa(d.Rule+1) != row[8] {
					t.Errorf("%s line %d: %s engine says %s by rule %d, want %s by rule %s",
						path, i+1, name, outcome(rs, d), d.Rule+1, row[7], row[8])
				}
			}
			n++
		}
	}
	if n < 8000 {
		t.Errorf("only %d decisions found", n)
	}
}

// TestMigrated decides what the present form of an old configuration was
// recorded to decide.
func TestMigrated(t *testing.T) {
	for _, path := range glob(t, "../../testdata/migration/*/new.conf") {
		rs := load(t, path)
		for i, row := range rows(t, filepath.Join(filepath.Dir(path), "envelopes.tsv")) {
			tx := transaction(t, rs, row)
			want := strings.TrimPrefix(row[6], "accept:")
			for name, e := range engines(rs) {
				if got := outcome(rs, e.Decide(t.Context(), tx, nil)); got != want {
					t.Errorf("%s envelope %d: %s engine says %s, want %s", filepath.Dir(path), i+1, name, got, want)
				}
			}
		}
	}
}
