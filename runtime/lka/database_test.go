package lka

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// TestDatabase follows a database of aliases: before it can be read every
// answer is an error and not a no, and one that is damaged changes nothing.
func TestDatabase(t *testing.T) {
	good, err := os.ReadFile("../../compile/tablefile/hashdb/testdata/small.db")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "aliases.db")
	r := start(t, Config{Resolver: "127.0.0.1:9", Rules: &compile.Ruleset{Tables: []compile.Table{
		{Name: "aliases", Kind: compile.Dynamic, Backend: "db", Path: path},
	}}})
	ctx := t.Context()
	ask := func(key string) (string, bool, error) { return r.mfa.Lookup(ctx, 1, engine.Alias, key) }
	if _, ok, err := ask("abuse"); ok || err == nil {
		t.Errorf("before there is a file: %v, %v", ok, err)
	}
	if ok, err := r.mfa.Check(ctx, 1, engine.Alias, "nobody"); ok || err == nil {
		t.Errorf("before there is a file: %v, %v", ok, err)
	}
	write := func(data []byte) error {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return r.control.UpdateNamed(ctx, "aliases")
	}
	if err := write(good); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"abuse": "root, carol", "Postmaster": "root", "nobody": ""} {
		if v, ok, err := ask(key); v != want || ok != (want != "") || err != nil {
			t.Errorf("%s is %q, %v, %v; want %q", key, v, ok, err, want)
		}
	}
	if err := write([]byte("no database\n")); err == nil {
		t.Error("rubbish was read")
	}
	if v, _, err := ask("abuse"); v != "root, carol" || err != nil {
		t.Errorf("after rubbish: %q, %v", v, err)
	}
}

func TestDatabaseNotRead(t *testing.T) {
	s := newDatabase(&compile.Table{Name: "t", Backend: "db", Path: "/nonexistent"}, '+')
	if _, _, err := s.fetch(t.Context(), engine.Alias); !errors.Is(err, errNotRead) {
		t.Errorf("fetch: %v", err)
	}
}
