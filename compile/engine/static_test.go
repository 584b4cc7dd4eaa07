package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"smtpd/compile"
)

// entriesOf returns the entries of a table as a Ruleset has them, each with
// its key as the value.
func entriesOf(keys ...string) []compile.Entry {
	keys = slices.Clone(keys)
	for i := range keys {
		keys[i] = fold(keys[i])
	}
	slices.Sort(keys)
	var entries []compile.Entry
	for _, k := range slices.Compact(keys) {
		entries = append(entries, compile.Entry{Key: k, Value: k})
	}
	return entries
}

// pieces are what random entries and keys are made of. They are few, so that
// entries overlap and keys match.
var pieces = map[Service][]string{
	String:  {"a", "b", "", "*", "@"},
	Domain:  {"a", "b", ".", "*", "ab", "*.", ".a"},
	NetAddr: {"10", "10.1", "1", ".", "0.0.0.0/0", "/8", "/9", "::", "2001:db8:", "/0", "/16", "[", "]", "ipv6:", "local"},
	MailAddr: {
		"a", "b", "+", "@", "*", ".", "@a", "a@", "*.", "a+b",
	},
	Regex: {"a", "b", "^", "$", "(", ")", "*", "|", "[a-b]", "."},
}

func randomText(r *rand.Rand, from []string) string {
	var b strings.Builder
	for range r.IntN(5) {
		b.WriteString(from[r.IntN(len(from))])
	}
	return b.String()
}

// TestStaticIsScan checks that the indexes find what the definition finds.
func TestStaticIsScan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for service, from := range pieces {
		for range 3000 {
			var keys []string
			for range r.IntN(12) {
				keys = append(keys, randomText(r, from))
			}
			entries := entriesOf(keys...)
			s := NewStatic(&compile.Table{Entries: entries}, '+')
			for range 20 {
				checkScan(t, s, entries, service, randomText(r, from))
			}
		}
	}
}

func checkScan(t *testing.T, s *Static, entries []compile.Entry, service Service, key string) {
	t.Helper()
	want, wantOK := "", false
	if i := scan(entries, service, fold(key), '+'); i >= 0 {
		want, wantOK = entries[i].Value, true
	}
	got, ok, err := s.Lookup(service, key)
	if got != want || ok != wantOK || err != nil {
		t.Fatalf("service %#x, key %q in %q: %q, %v, %v, want %q, %v", service, key, entries, got, ok, err, want, wantOK)
	}
}

// FuzzStatic states that the indexes find what the definition finds.
func FuzzStatic(f *testing.F) {
	f.Add(uint16(Domain), "*.example.org\nexample.org\n*", "a.example.org")
	f.Add(uint16(NetAddr), "10/8\n10.1\n::/0\nlocal", "10.1.2.3")
	f.Add(uint16(MailAddr), "bob\n@*.org\nbob+x@a.org\n@", "bob+x@a.org")
	f.Add(uint16(MailAddr), "a@**.b\na@*b*", "a+x@.b")
	f.Fuzz(func(t *testing.T, service uint16, lines, key string) {
		if len(lines) > 1<<12 || len(key) > maxKey {
			return
		}
		entries := entriesOf(strings.Split(lines, "\n")...)
		checkScan(t, NewStatic(&compile.Table{Entries: entries}, '+'), entries, Service(service), key)
	})
}

func TestStaticFetch(t *testing.T) {
	s := NewStatic(&compile.Table{Entries: entriesOf("192.0.2.2", "192.0.2.1")}, '+')
	for _, want := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.1"} {
		if got, ok, err := s.Fetch(Source); got != want || !ok || err != nil {
			t.Errorf("Fetch = %q, %v, %v, want %q", got, ok, err, want)
		}
	}
	if _, ok, _ := NewStatic(new(compile.Table), '+').Fetch(Source); ok {
		t.Error("Fetch of an empty table found something")
	}
}

func TestStaticKeyTooLong(t *testing.T) {
	s := NewStatic(&compile.Table{Entries: entriesOf("*")}, '+')
	if ok, err := s.Check(Domain, strings.Repeat("a", maxKey)); !ok || err != nil {
		t.Errorf("key of %d bytes: %v, %v", maxKey, ok, err)
	}
	if ok, err := s.Check(Domain, strings.Repeat("a", maxKey+1)); ok || err != ErrKeyTooLong {
		t.Errorf("key of %d bytes: %v, %v", maxKey+1, ok, err)
	}
}

// BenchmarkStatic measures a lookup in a table of a million entries.
func BenchmarkStatic(b *testing.B) {
	const n = 1_000_000
	tables := []struct {
		name    string
		service Service
		entry   func(i int) string
		key     func(i int) string
	}{
		{"string", String, func(i int) string { return fmt.Sprintf("user%07d", i) }, nil},
		{"domain", Domain, func(i int) string { return fmt.Sprintf("d%07d.example", i) }, nil},
		{"wildcard", Domain, func(i int) string { return fmt.Sprintf("*.d%07d.example", i) },
			func(i int) string { return fmt.Sprintf("a.d%07d.example", i) }},
		{"mailaddr", MailAddr, func(i int) string { return fmt.Sprintf("u@d%07d.example", i) }, nil},
		{"netaddr", NetAddr, func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255) }, nil},
	}
	for _, tt := range tables {
		b.Run(fmt.Sprintf("service=%s/entries=%d", tt.name, n), func(b *testing.B) {
			entries := make([]compile.Entry, n)
			keys := make([]string, 4096)
			for i := range entries {
				entries[i].Key = tt.entry(i)
			}
			r := rand.New(rand.NewPCG(1, 2))
			for i := range keys {
				j := r.IntN(n)
				if keys[i] = entries[j].Key; tt.key != nil {
					keys[i] = tt.key(j)
				}
			}
			s := NewStatic(&compile.Table{Entries: entries}, '+')
			s.Check(tt.service, keys[0])
			b.ReportAllocs()
			b.ResetTimer()
			i := 0
			for b.Loop() {
				if ok, err := s.Check(tt.service, keys[i&4095]); !ok || err != nil {
					b.Fatalf("%q: %v, %v", keys[i&4095], ok, err)
				}
				i++
			}
		})
	}
}
