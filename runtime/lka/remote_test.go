package lka

import (
	"path/filepath"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/stat"
)

// gathered returns what was counted of a table: the value of a counter, or how
// many times a histogram saw something.
func gathered(t *testing.T, name, table string) float64 {
	t.Helper()
	families, err := stat.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() != name || len(m.Label) != 1 || m.Label[0].GetValue() != table {
				continue
			}
			if h := m.GetHistogram(); h != nil {
				return float64(h.GetSampleCount())
			}
			return m.GetCounter().GetValue()
		}
	}
	return 0
}

// TestTablesAreCounted asks a database for what is there, what is not, what it
// does not serve, and the first once more.
func TestTablesAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mail.sqlite")
	if _, err := openDatabase(t, "sqlite", path).Exec("CREATE TABLE v (a TEXT, b TEXT); INSERT INTO v VALUES ('root', 'alice')"); err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{Resolver: "127.0.0.1:9", Rules: &compile.Ruleset{Tables: []compile.Table{
		{Name: "counted", Kind: compile.Dynamic, Backend: "sqlite", Path: "/x", Config: "dbpath " + path + "\nquery_alias SELECT b FROM v WHERE a = ?\n"},
	}}})
	ask := func(s engine.Service, key string) {
		r.mfa.Lookup(t.Context(), 1, s, key)
	}
	want := map[string]float64{
		"smtpd_table_lookups_total": 4, "smtpd_table_hits_total": 2, "smtpd_table_errors_total": 1,
		"smtpd_table_cache_hits_total": 1, "smtpd_table_seconds": 4,
	}
	for name := range want {
		want[name] += gathered(t, name, "counted")
	}
	ask(engine.Alias, "root")
	ask(engine.Alias, "nobody")
	ask(engine.Credentials, "root")
	ask(engine.Alias, "Root")
	for name, n := range want {
		if got := gathered(t, name, "counted"); got != n {
			t.Errorf("%s is %v, want %v", name, got, n)
		}
	}
}

// TestConfigurationHasChanged has somebody change the file that configures a
// table and update the table: he is told what to do.
func TestConfigurationHasChanged(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "sqlite.conf")
	text := "dbpath " + filepath.Join(dir, "mail.sqlite") + "\nquery_alias SELECT b FROM v WHERE a = ?\n"
	if _, err := openDatabase(t, "sqlite", filepath.Join(dir, "mail.sqlite")).Exec("CREATE TABLE v (a TEXT, b TEXT)"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, conf, text)
	r := start(t, Config{Resolver: "127.0.0.1:9", Rules: &compile.Ruleset{Tables: []compile.Table{
		{Name: "t", Kind: compile.Dynamic, Backend: "sqlite", Path: conf, Config: text},
	}}})
	if err := r.control.Update(t.Context(), 1); err != nil {
		t.Error(err)
	}
	writeFile(t, conf, text+"timeout 3s\n")
	if err := r.control.Update(t.Context(), 1); err == nil {
		t.Error("the file was passed over without a word")
	}
}

// TestAuthenticateByDatabase compares a password with the hash that a map has,
// which does not judge passwords itself.
func TestAuthenticateByDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mail.sqlite")
	if _, err := openDatabase(t, "sqlite", path).Exec("CREATE TABLE v (a TEXT, b TEXT); INSERT INTO v VALUES ('alice', ?)", secretHash); err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{Resolver: "127.0.0.1:9", Rules: &compile.Ruleset{Tables: []compile.Table{
		{Name: "t", Kind: compile.Dynamic, Backend: "sqlite", Path: "/x", Config: "dbpath " + path + "\nquery_credentials SELECT a, b FROM v WHERE a = ?\n"},
	}}})
	for password, want := range map[string]bool{"secret": true, "Secret": false} {
		if ok, err := r.smtp.Authenticate(t.Context(), 1, "Alice", password); ok != want || err != nil {
			t.Errorf("%s: %v, %v", password, ok, err)
		}
	}
}
