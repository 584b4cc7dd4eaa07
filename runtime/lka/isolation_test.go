package lka

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// silent listens at a socket and never says anything. It tells when somebody
// has come.
func silent(t *testing.T) (socket string, came <-chan struct{}) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "smtpd-test-") // short enough
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, ".s.PGSQL.5432")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{}, 100)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			arrived <- struct{}{}
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return socket, arrived
}

// TestSourceStallsNoOther has servers of all kinds that hang: what they are
// asked fails in time, and meanwhile everything else is answered.
func TestSourceStallsNoOther(t *testing.T) {
	socket, came := silent(t)
	configs := map[string]string{
		"postgres":  "conninfo host='" + filepath.Dir(socket) + "' user='x' dbname='x' sslmode='disable'\nquery_alias SELECT 1\n",
		"mysql":     "socket " + socket + "\nquery_alias SELECT 1\n",
		"ldap":      "url ldapi://" + strings.ReplaceAll(socket, "/", "%2F") + "\nusername cn=x\npassword x\nbasedn dc=x\nalias_filter (cn=%u)\nalias_attributes cn\n",
		"redis":     "master unix:" + socket + "\n",
		"socketmap": "server unix:" + socket + "\n",
	}
	rs := &compile.Ruleset{Tables: []compile.Table{
		{Name: "fast", Kind: compile.Mapping, Backend: "static", Entries: []compile.Entry{{Key: "root", Value: "alice"}}},
	}}
	for backend, config := range configs {
		rs.Tables = append(rs.Tables, compile.Table{Name: backend, Kind: compile.Dynamic, Backend: backend, Path: "/x", Config: config + "timeout 2s\n"})
	}
	r := start(t, Config{Rules: rs, Resolver: "127.0.0.1:9"})
	var asking sync.WaitGroup
	for id := compile.TableID(2); int(id) <= len(rs.Tables); id++ {
		for range 3 {
			asking.Go(func() {
				if v, ok, err := r.mta.Lookup(t.Context(), id, engine.Alias, "root"); ok || err == nil {
					t.Errorf("%s hangs, and its answer is %q, %v, %v", rs.Table(id).Name, v, ok, err)
				}
			})
		}
	}
	for range configs {
		<-came
	}
	for range 10 { // nobody else has to wait for them
		if v, ok, err := r.mfa.Lookup(t.Context(), 1, engine.Alias, "root"); v != "alice" || !ok || err != nil {
			t.Fatalf("%q, %v, %v", v, ok, err)
		}
	}
	asking.Wait()
}
