package queue

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"smtpd/runtime/envelope"
)

// checkAll runs a check to its end, a few records at a time.
func checkAll(t *testing.T, s *pebbleStore) (findings []Finding) {
	t.Helper()
	for from := ""; ; {
		page, err := s.check(from, 3)
		if err != nil {
			t.Fatal(err)
		}
		findings = append(findings, page.Findings...)
		if from = page.Next; from == "" {
			return findings
		}
	}
}

// TestCheck breaks a store in every way that a check knows, one at a time.
func TestCheck(t *testing.T) {
	a, b := testEnvelope(1, 1, "a.example"), testEnvelope(1, 2, "b.example")
	large := testEnvelope(2, 1, "a.example")
	at, _ := due(&a)
	mark := Mark{at, a.ID}
	set := func(t *testing.T, s *pebbleStore, key, value []byte) {
		t.Helper()
		if err := s.db.Set(key, value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	del := func(t *testing.T, s *pebbleStore, key []byte) {
		t.Helper()
		if err := s.db.Delete(key, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(key []byte) func(*testing.T, *pebbleStore) {
		return func(t *testing.T, s *pebbleStore) {
			raw, err := s.get(key)
			if err != nil {
				t.Fatal(err)
			}
			raw[len(raw)-1] ^= 1
			set(t, s, key, raw)
		}
	}
	for _, tt := range []struct {
		name  string
		harm  func(t *testing.T, s *pebbleStore)
		found string // in what is found
		again string // in what a second check finds
		hold  envelope.MessageID
		left  int // envelopes that wait
	}{
		{"nothing", func(*testing.T, *pebbleStore) {}, "", "", 0, 3},
		{"envelope", flip(envelopeKey(a.ID)), "envelope 0000000100000001: checksum: damaged record: set aside", "envelope 0000000100000001, ", 0, 2},
		{"envelope of another id", func(t *testing.T, s *pebbleStore) {
			other := stored{byDomain(&b), b}
			raw := other.append(nil)
			set(t, s, envelopeKey(a.ID), s.rec.append(nil, envelopeKey(a.ID), raw))
		}, "holds another envelope", "envelope 0000000100000001, ", 0, 2},
		{"no entry by time", func(t *testing.T, s *pebbleStore) { del(t, s, dueKey(mark)) }, "is not in the schedule: entered", "", 0, 3},
		{"no entry by destination", func(t *testing.T, s *pebbleStore) { del(t, s, destinationKey(byDomain(&a), mark)) }, "is not in the schedule: entered", "", 0, 3},
		{"entry of no envelope", func(t *testing.T, s *pebbleStore) {
			set(t, s, dueKey(Mark{at, 77}), appendDestination(nil, byDomain(&a)))
		}, "envelope 000000000000004d, which does not wait so: removed", "", 0, 3},
		{"entry of another time", func(t *testing.T, s *pebbleStore) {
			set(t, s, destinationKey(byDomain(&a), Mark{at.Add(time.Hour), a.ID}), nil)
		}, "which does not wait so: removed", "", 0, 3},
		{"envelope is gone", func(t *testing.T, s *pebbleStore) { del(t, s, envelopeKey(a.ID)) }, "which does not wait so: removed", "", 0, 2},
		{"content", flip(contentKey(1)), "message 00000001: its content: checksum: damaged record: kept", "its content", 1, 3},
		{"content is gone", func(t *testing.T, s *pebbleStore) { del(t, s, contentKey(1)) }, "its content: not in the queue: kept", "its content", 1, 3},
		{"message", flip(messageKey(1)), "message 00000001: checksum: damaged record: set aside", "message 00000001, ", 1, 3},
		{"message is gone", func(t *testing.T, s *pebbleStore) { del(t, s, messageKey(1)) }, "its message is not there", "its message", 1, 3},
		{"file is cut", func(t *testing.T, s *pebbleStore) {
			if err := os.Truncate(s.spool.path(2), 100); err != nil {
				t.Fatal(err)
			}
		}, "message 00000002: its content: 100 of ", "its content", 2, 3},
		{"file is gone", func(t *testing.T, s *pebbleStore) {
			if err := os.Remove(s.spool.path(2)); err != nil {
				t.Fatal(err)
			}
		}, "message 00000002: its content: ", "its content", 2, 3},
		{"message of no envelope", func(t *testing.T, s *pebbleStore) {
			set(t, s, messageKey(9), s.rec.append(nil, messageKey(9), messageRecord{inStore, 1}.append(nil)))
		}, "message 00000009: has no envelope: damaged record: set aside", "message 00000009, ", 0, 3},
		{"content of no message", func(t *testing.T, s *pebbleStore) {
			set(t, s, contentKey(9), s.rec.append(nil, contentKey(9), []byte("x")))
		}, "content of message 00000009: belongs to no message", "content of message 00000009, ", 0, 3},
		{"setting", func(t *testing.T, s *pebbleStore) { set(t, s, settingKey("paused"), []byte("?")) }, "setting paused: ", "record ", 0, 3},
		{"unknown", func(t *testing.T, s *pebbleStore) { set(t, s, []byte("Z"), []byte("?")) }, "record of no known kind: ", "record ", 0, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := openTest(t, StoreConfig{Dir: t.TempDir()})
			mustCommit(t, s, 1, "one", a, b)
			mustCommit(t, s, 2, strings.Repeat("large", maxInline), large)
			tt.harm(t, s)
			text := func(l []Finding) string {
				var b strings.Builder
				for _, f := range l {
					b.WriteString(f.What + ": " + f.Done + "\n")
				}
				return b.String()
			}
			first := checkAll(t, s)
			if got := text(first); (tt.found == "") != (got == "") || !strings.Contains(got, tt.found) {
				t.Errorf("found %q, want %q", got, tt.found)
			}
			if tt.hold != 0 && !slices.ContainsFunc(first, func(f Finding) bool { return f.hold == tt.hold }) {
				t.Errorf("message %v is not held", tt.hold)
			}
			second := checkAll(t, s)
			if got := text(second); (tt.again == "") != (got == "") || !strings.Contains(got, tt.again) {
				t.Errorf("found again %q, want %q", got, tt.again)
			}
			for _, r := range []Range{{}, {Dest: ptr(byDomain(&b))}} {
				want := tt.left
				if r.Dest != nil {
					want = 1
				}
				if got := walk(t, s, r); len(got) != want {
					t.Errorf("%d entries, want %d", len(got), want)
				}
			}
			// What was mended can be removed, and leaves nothing in the index.
			var rest []envelope.ID
			for ev, err := range s.List(0) {
				if err == nil {
					rest = append(rest, ev.ID)
				}
			}
			mustApply(t, s, Changes{Remove: rest})
			if got := walk(t, s, Range{}); len(got) > 0 {
				t.Errorf("left in the index: %v", got)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestCheckHolds checks a queue: the envelopes of a message that cannot be
// read are held, and say so.
func TestCheckHolds(t *testing.T) {
	c := Config{Rules: testRules(), Log: slog.New(slog.DiscardHandler)}
	a := newAgent(&c)
	s := openTest(t, StoreConfig{Dir: t.TempDir()})
	a.store, a.scheduler.store = s, s
	ev := testEnvelope(1, 1, "a.example")
	mustCommit(t, s, 1, "one", ev, testEnvelope(1, 2, "a.example"))
	if err := s.db.Delete(contentKey(1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	page, err := a.check("")
	if err != nil || len(page.Findings) != 1 || page.Findings[0].Done != "kept; envelopes held: 2" {
		t.Errorf("found %+v, %v", page.Findings, err)
	}
	for ev := range s.List(0) {
		if ev.Flags&envelope.Suspended == 0 {
			t.Errorf("envelope %v is not held", ev.ID)
		}
	}
	a.store = NewMemoryStore(byDomain)
	if _, err := a.check(""); err == nil {
		t.Error("a store in memory was checked")
	}
}

// TestDamagedTable damages a file of the store in the middle: what is in there
// is an error for who asks for it, and the service goes on.
func TestDamagedTable(t *testing.T) {
	c := StoreConfig{Dir: t.TempDir(), Fatal: func(err error) { t.Errorf("the process ends: %v", err) }}
	s := openTest(t, c)
	const messages = 200
	for n := range envelope.MessageID(messages) {
		mustCommit(t, s, n+1, strings.Repeat("x", 4096), testEnvelope(n+1, 1, "a.example"))
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	tables, err := filepath.Glob(filepath.Join(c.Dir, "store", "*.sst"))
	if err != nil || len(tables) != 1 {
		t.Fatalf("tables %q, %v", tables, err)
	}
	b, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 3; i < len(b)/3+64; i++ {
		b[i] ^= 0xff
	}
	if err := os.WriteFile(tables[0], b, 0o600); err != nil {
		t.Fatal(err)
	}

	s = openTest(t, c)
	failed := 0
	for n := range envelope.MessageID(messages) {
		f, err := s.Open(n + 1)
		if err != nil {
			failed++
			continue
		}
		f.Close()
	}
	if failed == 0 || failed == messages {
		t.Errorf("%d of %d messages cannot be read", failed, messages)
	}
	if found := checkAll(t, s); !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.What, "cannot be read") }) {
		t.Errorf("found %+v", found)
	}
	mustCommit(t, s, 1000, "new", testEnvelope(1000, 1, "a.example"))
	if got := contentIn(t, s, 1000); got != "new" {
		t.Errorf("content %q", got)
	}
}
