package source

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/lka/backend"
)

// sqliteTable opens a table of a database that statements make.
func sqliteTable(t testing.TB, config string, statements ...string) (table *backend.Table, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "mail %3f?#.sqlite") // all of it is the path
	db, err := sql.Open("sqlite", path[:strings.LastIndexByte(path, '/')]+"/plain")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	db.Close()
	if err := os.Rename(filepath.Join(filepath.Dir(path), "plain"), path); err != nil {
		t.Fatal(err)
	}
	table, err = Open(&compile.Table{Name: "t", Backend: "sqlite", Path: "/etc/sqlite.conf", Config: "dbpath " + path + "\n" + config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table, path
}

// TestSQLite has queries whose answers are no values: an error, and not a no.
func TestSQLite(t *testing.T) {
	table, _ := sqliteTable(t, `
query_alias SELECT b FROM v WHERE a = ?;
query_credentials SELECT b FROM v WHERE a = ?
query_userinfo SELECT 1000, 100, '/home/' || a FROM v WHERE a = ?
query_domain SELECT nosuch FROM v WHERE a = ?
query_string DELETE FROM v WHERE a = ? RETURNING a
`, "CREATE TABLE v (a TEXT, b TEXT)", "INSERT INTO v VALUES ('one', 'x'), ('null', NULL), ('empty', ''), ('long', '"+strings.Repeat("x", maxValue+1)+"')")
	for _, c := range []struct {
		service   engine.Service
		key, want string
		err       string
	}{
		{engine.Alias, "one", "x", ""},
		{engine.Alias, "two", "", ""},
		{engine.Alias, "' OR '1'='1", "", ""},
		{engine.Alias, "null", "", "NULL"},
		{engine.Alias, "empty", "", "empty"},
		{engine.Alias, "long", "", "too large"},
		{engine.UserInfo, "one", "1000:100:/home/one", ""},
		{engine.Credentials, "one", "", "1 columns, and 2 are needed"},
		{engine.Domain, "one", "", "no such column"},
		{engine.String, "one", "", "readonly"},
		{engine.MailAddr, "one", "", "does not serve"},
	} {
		v, ok, err := table.Lookup(t.Context(), c.service, c.key)
		if v != c.want || ok != (c.want != "") || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v %q: %q, %v, %v; want %q, %q", c.service, c.key, v, ok, err, c.want, c.err)
		}
	}
}

// TestSQLiteReplaced puts another database in the place of one: after an
// update it is the one that answers.
func TestSQLiteReplaced(t *testing.T) {
	const config = "query_alias SELECT b FROM v WHERE a = ?\ncache_ttl 0\nfetch_source SELECT b FROM v ORDER BY b\n"
	make := func(b string) []string {
		return []string{"CREATE TABLE v (a TEXT, b TEXT)", fmt.Sprintf("INSERT INTO v VALUES ('one', '%s')", b)}
	}
	table, path := sqliteTable(t, config, make("old")...)
	_, other := sqliteTable(t, config, make("new")...)
	ask := func(want string) {
		t.Helper()
		if v, _, err := table.Lookup(t.Context(), engine.Alias, "one"); v != want || err != nil {
			t.Errorf("%q, %v; want %q", v, err, want)
		}
		if v, _, err := table.Fetch(t.Context(), engine.Source); v != want || err != nil {
			t.Errorf("%q, %v; want %q", v, err, want)
		}
	}
	ask("old")
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	if err := table.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask("new")
	os.Remove(path)
	if err := table.Update(t.Context()); err == nil {
		t.Error("a file that is gone was opened")
	}
	if _, ok, err := table.Lookup(t.Context(), engine.Alias, "one"); ok || err == nil {
		t.Errorf("a file that is gone says %v, %v", ok, err)
	}
}

// TestSQLiteLog has a database with a write-ahead log in a directory that is
// closed to us: it is read while nobody has it open, and while somebody has.
func TestSQLiteLog(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("nothing is closed to root")
	}
	table, path := sqliteTable(t, "query_alias SELECT b FROM v WHERE a = ?\ncache_ttl 0\n",
		"PRAGMA journal_mode = WAL", "CREATE TABLE v (a TEXT, b TEXT)", "INSERT INTO v VALUES ('one', 'old')")
	dir := filepath.Dir(path)
	closed := func(mode os.FileMode) {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	defer closed(0o700)
	ask := func(want string) {
		t.Helper()
		closed(0o500)
		defer closed(0o700)
		if v, _, err := table.Lookup(t.Context(), engine.Alias, "one"); v != want || err != nil {
			t.Errorf("%q, %v; want %q", v, err, want)
		}
	}
	ask("old")
	ask("old")
	writer, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path}).String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Exec("UPDATE v SET b = 'new'"); err != nil {
		t.Fatal(err)
	}
	ask("new")
	writer.Close()
	ask("new")
}

// BenchmarkSQLite measures a lookup that is remembered, and one that is not.
func BenchmarkSQLite(b *testing.B) {
	for name, settings := range map[string]string{"remembered": "", "asked": "cache_ttl 0\n"} {
		b.Run("answer="+name, func(b *testing.B) {
			table, _ := sqliteTable(b, "query_alias SELECT b FROM v WHERE a = ?\n"+settings,
				"CREATE TABLE v (a TEXT PRIMARY KEY, b TEXT)", "INSERT INTO v VALUES ('one', 'x')")
			for b.Loop() {
				if _, ok, err := table.Lookup(b.Context(), engine.Alias, "one"); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
