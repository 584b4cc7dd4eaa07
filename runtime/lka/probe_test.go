package lka

import (
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// TestProbe asks tables by name, as the administrator does.
func TestProbe(t *testing.T) {
	r := start(t, Config{Resolver: "127.0.0.1:9", Rules: &compile.Ruleset{Tables: []compile.Table{
		{Name: "map", Kind: compile.Mapping, Backend: "static", Entries: []compile.Entry{{Key: "a", Value: "b"}}},
		{Name: "nets", Kind: compile.List, Backend: "static", Path: "/etc/nets", Entries: []compile.Entry{{Key: "10.0.0.0/8"}}},
		{Name: "secrets", Kind: compile.Mapping, Backend: "static", Entries: []compile.Entry{{Key: "a", Value: "user:password"}, {Key: "b", Value: "$6$x"}}},
		{Name: "gone", Kind: compile.Dynamic, Backend: "db", Path: "/nonexistent/x.db"},
	}}})
	tests := []struct {
		table, key string
		service    engine.Service
		want       Probe
	}{
		{"map", "A", engine.Alias, Probe{Backend: "static", Found: true, Value: "b"}},
		{"<map>", "b", engine.Alias, Probe{Backend: "static"}},
		{"nets", "10.1.2.3", engine.NetAddr, Probe{Backend: "file:/etc/nets", Found: true}},
		{"nets", "11.1.2.3", engine.NetAddr, Probe{Backend: "file:/etc/nets"}},
		{"secrets", "a", engine.Credentials, Probe{Backend: "static", Found: true, Value: "user:(hidden)"}},
		{"secrets", "b", engine.Credentials, Probe{Backend: "static", Found: true, Value: "(hidden)"}},
		{"gone", "a", engine.Alias, Probe{Backend: "db:/nonexistent/x.db", Error: errNotRead.Error()}},
		{"<getpwnam>", "root", engine.UserInfo, Probe{Backend: "getpwnam", Found: true, Value: "0:0:/root"}},
		{"getpwnam", "root", engine.Alias, Probe{Backend: "getpwnam", Error: errService.Error()}},
		{"map", strings.Repeat("x", 2000), engine.Alias, Probe{Backend: "static", Error: engine.ErrKeyTooLong.Error()}},
	}
	for _, tt := range tests {
		got, err := r.control.Probe(t.Context(), tt.table, tt.service, tt.key)
		got.Took = 0
		if got != tt.want || err != nil {
			t.Errorf("%s, %v, %.20q: %+v, %v; want %+v", tt.table, tt.service, tt.key, got, err, tt.want)
		}
	}
	if _, err := r.control.Probe(t.Context(), "none", engine.Alias, "a"); err == nil || !strings.Contains(err.Error(), "no table is called none") {
		t.Errorf("a table that is not there: %v", err)
	}
	if _, err := r.smtp.Probe(t.Context(), "map", engine.Alias, "a"); err == nil {
		t.Error("smtp asks as the administrator does")
	}
}
