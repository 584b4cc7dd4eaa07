package queue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"

	"smtpd/runtime/envelope"
)

// byDomain is the grouping of tests.
func byDomain(ev *envelope.Envelope) Destination {
	return Destination{ev.Type, ev.Action, ev.Dest.Domain}
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// testEnvelope returns envelope n of message msg.
func testEnvelope(msg envelope.MessageID, n int, domain string) envelope.Envelope {
	return envelope.Envelope{
		ID:   envelope.ID(msg)<<32 | envelope.ID(n),
		Type: envelope.MTA, Action: "out",
		Sender:  envelope.Address{User: "s", Domain: "example.org"},
		Dest:    envelope.Address{User: fmt.Sprint("u", n), Domain: domain},
		Created: epoch, NextTry: epoch, Expires: epoch.Add(96 * time.Hour),
	}
}

// commit stores a message whose content comes as the reception brings it.
func commit(s Store, msg envelope.MessageID, content string, evs ...envelope.Envelope) error {
	c := contentBuffer{next: func(piece []byte) error { return s.Append(msg, piece) }}
	if _, err := io.WriteString(&c, content); err != nil {
		s.Discard(msg)
		return err
	}
	return s.Commit(&Message{ID: msg, Content: c.rest, Envelopes: evs})
}

func mustCommit(t testing.TB, s Store, msg envelope.MessageID, content string, evs ...envelope.Envelope) {
	t.Helper()
	if err := commit(s, msg, content, evs...); err != nil {
		t.Fatal(err)
	}
}

func mustApply(t testing.TB, s Store, c Changes) {
	t.Helper()
	if err := s.Apply(&c); err != nil {
		t.Fatal(err)
	}
}

func contentIn(t testing.TB, s Store, msg envelope.MessageID) string {
	t.Helper()
	f, err := s.Open(msg)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func walk(t testing.TB, s Store, r Range) []Entry {
	t.Helper()
	var l []Entry
	for e, err := range s.Walk(r) {
		if err != nil {
			t.Fatal(err)
		}
		l = append(l, e)
	}
	return l
}

func list(t testing.TB, s Store) []envelope.Envelope {
	t.Helper()
	var l []envelope.Envelope
	for ev, err := range s.List(0) {
		if err != nil {
			t.Fatal(err)
		}
		l = append(l, ev)
	}
	return l
}

func openTest(t testing.TB, c StoreConfig) *pebbleStore {
	t.Helper()
	c.Grouping = byDomain
	s, err := openPebble(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var testKey = strings.Repeat("k", 32)

// TestStore is what every implementation must do.
func TestStore(t *testing.T) {
	stores := map[string]func(t *testing.T) Store{
		"memory": func(t *testing.T) Store { return NewMemoryStore(byDomain) },
		"pebble": func(t *testing.T) Store { return openTest(t, StoreConfig{Dir: t.TempDir()}) },
		"pebble sealed": func(t *testing.T) Store {
			return openTest(t, StoreConfig{Dir: t.TempDir(), Compress: true, Encrypt: true, Key: testKey})
		},
	}
	tests := map[string]func(t *testing.T, s Store){
		"content": testContent, "envelopes": testEnvelopes, "walk": testWalk,
		"last envelope": testLastEnvelope, "suspended": testSuspended, "report": testReport,
		"pieces": testPieces, "discard": testDiscard, "settings": testSettings,
	}
	for store, open := range stores {
		for name, test := range tests {
			t.Run(store+"/"+name, func(t *testing.T) { test(t, open(t)) })
		}
	}
}

func testContent(t *testing.T, s Store) {
	for n, size := range []int{0, 1, maxInline, maxInline + 1, 300_001} {
		msg := envelope.MessageID(n + 1)
		want := strings.Repeat("0123456789abcde\n", size/16+1)[:size]
		if ok, err := s.Has(msg); ok || err != nil {
			t.Fatalf("before commit: has %v, %v", ok, err)
		}
		mustCommit(t, s, msg, want, testEnvelope(msg, 1, "a.example"))
		if ok, err := s.Has(msg); !ok || err != nil {
			t.Fatalf("after commit: has %v, %v", ok, err)
		}
		for range 2 { // each Open is a reading of its own
			if got := contentIn(t, s, msg); got != want {
				t.Fatalf("content of %d bytes came back as %d bytes", len(want), len(got))
			}
		}
	}
	if _, err := s.Open(99); !errors.Is(err, ErrNotFound) {
		t.Errorf("open of no message: %v", err)
	}
}

// testPieces brings a content in pieces of any size, in memory that is used
// again: who has called the store changes nothing afterwards.
func testPieces(t *testing.T, s Store) {
	var want strings.Builder
	memory := make([]byte, 3*blockSize)
	fill := func(n int, c byte) []byte {
		piece := memory[:n]
		for i := range piece {
			piece[i] = c
		}
		want.Write(piece)
		return piece
	}
	for i, n := range []int{1, blockSize - 1, blockSize, 0, 7, 3 * blockSize} {
		if err := s.Append(1, fill(n, 'a'+byte(i))); err != nil {
			t.Fatal(err)
		}
	}
	last := fill(100, 'z')
	if err := s.Commit(&Message{ID: 1, Content: last, Envelopes: []envelope.Envelope{testEnvelope(1, 1, "a.example")}}); err != nil {
		t.Fatal(err)
	}
	fill(len(memory), '!')
	if got := contentIn(t, s, 1); got != want.String()[:len(got)] || len(got) != want.Len()-len(memory) {
		t.Errorf("content of %d bytes came back as %d bytes, or others", want.Len()-len(memory), len(got))
	}
}

// testDiscard checks that what was given up is not in the message that has its
// id next.
func testDiscard(t *testing.T, s Store) {
	if err := s.Append(1, []byte("given up")); err != nil {
		t.Fatal(err)
	}
	s.Discard(1)
	s.Discard(2) // nothing was begun
	mustCommit(t, s, 1, "other", testEnvelope(1, 1, "a.example"))
	if got := contentIn(t, s, 1); got != "other" {
		t.Errorf("content %q", got)
	}
}

func testEnvelopes(t *testing.T, s Store) {
	a, b := testEnvelope(1, 1, "a.example"), testEnvelope(1, 2, "b.example")
	c := testEnvelope(2, 1, "c.example")
	c.Error = "550 \r\nno\x00 such user" // data, never structure
	mustCommit(t, s, 1, "one", a, b)
	mustCommit(t, s, 2, "two", c)
	if d := cmp.Diff([]envelope.Envelope{a, b, c}, list(t, s)); d != "" {
		t.Error(d)
	}
	b.Tries, b.Error, b.NextTry = 1, "451 later", epoch.Add(400*time.Second)
	mustApply(t, s, Changes{Put: []envelope.Envelope{b}, Remove: []envelope.ID{c.ID, 77}})
	if d := cmp.Diff([]envelope.Envelope{a, b}, list(t, s)); d != "" {
		t.Error(d)
	}
	got, err := s.Load(b.ID)
	if d := cmp.Diff(b, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if _, err := s.Load(c.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("load of a removed envelope: %v", err)
	}
}

func testWalk(t *testing.T, s Store) {
	a, b := testEnvelope(1, 1, "a.example"), testEnvelope(1, 2, "b.example")
	c, d := testEnvelope(2, 1, "a.example"), testEnvelope(2, 2, "c.example")
	c.NextTry, d.NextTry = epoch.Add(-time.Hour), epoch.Add(1000*time.Hour)
	mustCommit(t, s, 1, "one", a, b)
	mustCommit(t, s, 2, "two", c, d)
	entry := func(ev envelope.Envelope, at time.Time) Entry { return Entry{Mark{at, ev.ID}, byDomain(&ev)} }
	ea, eb, ec := entry(a, a.NextTry), entry(b, b.NextTry), entry(c, c.NextTry)
	ed := entry(d, d.Expires) // it expires before its next try
	check := func(what string, r Range, want ...Entry) {
		t.Helper()
		if diff := cmp.Diff(want, walk(t, s, r)); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	check("all", Range{}, ec, ea, eb, ed)
	check("after the first", Range{After: ec.Mark}, ea, eb, ed)
	check("of a destination", Range{Dest: &ea.Dest}, ec, ea)
	check("of a destination, after the first", Range{Dest: &ea.Dest, After: ec.Mark}, ea)
	check("of no destination", Range{Dest: &Destination{envelope.MTA, "out", ""}})

	a.NextTry, a.Dest.Domain = epoch.Add(time.Minute), "b.example"
	mustApply(t, s, Changes{Put: []envelope.Envelope{a}, Remove: []envelope.ID{c.ID}})
	ea = entry(a, a.NextTry)
	check("after a change", Range{}, eb, ea, ed)
	check("of the new destination", Range{Dest: &ea.Dest}, eb, ea)
	check("of the old destination", Range{Dest: &ec.Dest})
}

func testLastEnvelope(t *testing.T, s Store) {
	for msg, content := range map[envelope.MessageID]string{1: "small", 2: strings.Repeat("large", maxInline)} {
		a, b := testEnvelope(msg, 1, "a.example"), testEnvelope(msg, 2, "b.example")
		mustCommit(t, s, msg, content, a, b)
		mustApply(t, s, Changes{Remove: []envelope.ID{a.ID}})
		if got := contentIn(t, s, msg); got != content {
			t.Error("the content went before the last envelope")
		}
		bounce := b
		bounce.ID, bounce.Type = b.ID+7, envelope.Bounce
		mustApply(t, s, Changes{Put: []envelope.Envelope{bounce}, Remove: []envelope.ID{b.ID}})
		if got := contentIn(t, s, msg); got != content {
			t.Error("the content went before the report about it")
		}
		mustApply(t, s, Changes{Remove: []envelope.ID{bounce.ID}})
		if ok, err := s.Has(msg); ok || err != nil {
			t.Errorf("has the message after its last envelope went: %v, %v", ok, err)
		}
		if _, err := s.Open(msg); !errors.Is(err, ErrNotFound) {
			t.Errorf("open after the last envelope went: %v", err)
		}
	}
	if l := walk(t, s, Range{}); len(l) > 0 {
		t.Errorf("left in the index: %v", l)
	}
}

func testSuspended(t *testing.T, s Store) {
	a := testEnvelope(1, 1, "a.example")
	mustCommit(t, s, 1, "one", a)
	a.Flags |= envelope.Suspended
	mustApply(t, s, Changes{Put: []envelope.Envelope{a}})
	if l := walk(t, s, Range{}); len(l) > 0 {
		t.Errorf("a suspended envelope waits: %v", l)
	}
	a.Flags = 0
	mustApply(t, s, Changes{Put: []envelope.Envelope{a}})
	if l := walk(t, s, Range{}); len(l) != 1 {
		t.Errorf("a resumed envelope does not wait: %v", l)
	}
}

func testReport(t *testing.T, s Store) {
	a := testEnvelope(1, 1, "a.example")
	mustCommit(t, s, 1, "one", a)
	r := testEnvelope(2, 1, "example.org")
	err := s.Commit(&Message{ID: 2, Content: []byte("report"), Envelopes: []envelope.Envelope{r}, Reported: []envelope.ID{a.ID}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]envelope.Envelope{r}, list(t, s)); d != "" {
		t.Error(d)
	}
	if ok, _ := s.Has(1); ok {
		t.Error("the message that was reported about is still there")
	}
}

func testSettings(t *testing.T, s Store) {
	k := s.(keeper)
	if v, err := k.setting("a"); v != nil || err != nil {
		t.Errorf("a setting that nobody kept: %q, %v", v, err)
	}
	for _, want := range []string{"one", "two"} {
		if err := k.keep("a", []byte(want)); err != nil {
			t.Fatal(err)
		}
		if v, err := k.setting("a"); string(v) != want || err != nil {
			t.Errorf("setting %q, %v, want %q", v, err, want)
		}
	}
	if got := list(t, s); len(got) != 0 {
		t.Errorf("envelopes: %v", got)
	}
}

// TestStoreReopen checks that a store is the same after it was closed, and
// that switching compression and encryption strands nothing.
func TestStoreReopen(t *testing.T) {
	dir := t.TempDir()
	large := strings.Repeat("0123456789abcdef", maxInline/8)
	var want []envelope.Envelope
	configs := []StoreConfig{{}, {Compress: true}, {Encrypt: true, Key: testKey}, {Compress: true, Encrypt: true, Key: testKey}, {Key: testKey}}
	for n, c := range configs {
		c.Dir = dir
		s := openTest(t, c)
		for i := range 2 {
			msg := envelope.MessageID(2*n + i + 1)
			ev := testEnvelope(msg, 1, "a.example")
			mustCommit(t, s, msg, []string{"small", large}[i], ev)
			want = append(want, ev)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openTest(t, c)
		if d := cmp.Diff(want, list(t, s)); d != "" {
			t.Fatalf("%+v: %s", c, d)
		}
		for _, ev := range want {
			msg := ev.ID.Message()
			if got := contentIn(t, s, msg); got != []string{large, "small"}[msg%2] {
				t.Fatalf("%+v: content of message %v differs", c, msg)
			}
		}
		s.Close()
	}
	t.Run("without the key", func(t *testing.T) {
		s := openTest(t, StoreConfig{Dir: dir})
		locked := 0
		for range 2 { // reading must not set them aside
			locked = 0
			for _, ev := range want {
				if _, err := s.Load(ev.ID); errors.Is(err, errLocked) {
					locked++
				}
			}
		}
		if locked != 4 {
			t.Errorf("%d envelopes are sealed, want 4", locked)
		}
	})
}

// TestSealedStoreShowsNothing looks for the text of mail in the files of a
// sealed store.
func TestSealedStoreShowsNothing(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, StoreConfig{Dir: dir, Encrypt: true, Key: testKey})
	mustCommit(t, s, 1, "confidential words", testEnvelope(1, 1, "a.example"))
	mustCommit(t, s, 2, strings.Repeat("confidential words", maxInline/4), testEnvelope(2, 1, "a.example"))
	s.Close()
	err := walkFiles(dir, func(name string, b []byte) {
		if bytes.Contains(b, []byte("confidential")) || bytes.Contains(b, []byte("s\x0bexample.org")) {
			t.Errorf("%s holds clear text", name)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func walkFiles(dir string, f func(name string, b []byte)) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		name := dir + "/" + e.Name()
		if e.IsDir() {
			err = errors.Join(err, walkFiles(name, f))
			continue
		}
		b, rerr := os.ReadFile(name)
		err = errors.Join(err, rerr)
		f(name, b)
	}
	return err
}

// TestDamage changes each stored record in turn: the store must report it,
// set it aside, and go on with the rest.
func TestDamage(t *testing.T) {
	damage := func(t *testing.T, s *pebbleStore, key []byte) {
		raw, err := s.get(key)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)-1] ^= 1
		if err := s.db.Set(key, raw, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	a, b := testEnvelope(1, 1, "a.example"), testEnvelope(1, 2, "b.example")
	t.Run("envelope", func(t *testing.T) {
		s := openTest(t, StoreConfig{Dir: t.TempDir()})
		mustCommit(t, s, 1, "one", a, b)
		damage(t, s, envelopeKey(a.ID))
		if _, err := s.Load(a.ID); !errors.Is(err, ErrDamaged) {
			t.Fatalf("load: %v", err)
		}
		if _, err := s.Load(a.ID); !errors.Is(err, ErrNotFound) {
			t.Fatalf("load after it was set aside: %v", err)
		}
		mustApply(t, s, Changes{Remove: []envelope.ID{b.ID}, Stray: walk(t, s, Range{Dest: &Destination{envelope.MTA, "out", "a.example"}})})
		if l := walk(t, s, Range{}); len(l) > 0 {
			t.Errorf("left in the index: %v", l)
		}
		if got := contentIn(t, s, 1); got != "one" {
			t.Errorf("the content of what was set aside is %q", got)
		}
		if _, err := s.get(asideKey(envelopeKey(a.ID))); err != nil {
			t.Errorf("evidence: %v", err)
		}
	})
	t.Run("content", func(t *testing.T) {
		s := openTest(t, StoreConfig{Dir: t.TempDir()})
		mustCommit(t, s, 1, "one", a)
		damage(t, s, contentKey(1))
		if _, err := s.Open(1); !errors.Is(err, ErrDamaged) {
			t.Fatalf("open: %v", err)
		}
	})
	t.Run("large content", func(t *testing.T) {
		s := openTest(t, StoreConfig{Dir: t.TempDir(), Compress: true})
		mustCommit(t, s, 1, strings.Repeat("one", maxInline), a)
		name := s.spool.path(1)
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{nil, raw[:len(raw)-1], append([]byte{9}, raw...)} {
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Open(1); !errors.Is(err, ErrDamaged) {
				t.Errorf("open: %v", err)
			}
		}
	})
}

// TestSpoolSweep checks that the file of a commit that did not end goes at
// the next start, and no other.
func TestSpoolSweep(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, StoreConfig{Dir: dir})
	mustCommit(t, s, 1, strings.Repeat("x", maxInline+1), testEnvelope(1, 1, "a.example"))
	if err := s.Append(2, []byte("never committed")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openTest(t, StoreConfig{Dir: dir})
	names, err := s.spool.fs.List(s.spool.dir)
	if err != nil || len(names) != 1 || names[0] != envelope.MessageID(1).String() {
		t.Errorf("files after the start: %v, %v", names, err)
	}
}

// FuzzRecord checks that what a recorder reads of foreign bytes is bounded
// and never a surprise, and that its own records come back.
func FuzzRecord(f *testing.F) {
	plain, _ := newRecorder(false, false, testKey)
	packed, _ := newRecorder(true, true, testKey)
	f.Add([]byte("name"), plain.append(nil, []byte("name"), []byte("payload")))
	f.Add([]byte("name"), packed.append(nil, []byte("name"), []byte("payload")))
	f.Add([]byte("name"), []byte{recordVersion, recordGzip, 0, 0, 0, 0, 0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, name, b []byte) {
		if _, err := plain.parse(name, b); err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, errLocked) {
			t.Fatal(err)
		}
		for _, r := range []*recorder{plain, packed} {
			got, err := r.parse(name, r.append(nil, name, b))
			if err != nil || !bytes.Equal(got, b) {
				t.Fatalf("%x came back as %x, %v", b, got, err)
			}
		}
	})
}
