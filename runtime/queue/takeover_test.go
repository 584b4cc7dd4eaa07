package queue

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/runtime/envelope"
)

// imported writes a message for an import.
func imported(t *testing.T, content string, evs ...envelope.Envelope) *os.File {
	t.Helper()
	var b bytes.Buffer
	if err := WriteImport(&b, evs); err != nil {
		t.Fatal(err)
	}
	b.WriteString(content)
	f, err := contentFile(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(down)
		ev := to("a@down.example")
		ev.ID, ev.Created, ev.Tries = 7<<32|1, time.Now().Add(-time.Hour), 2
		got, err := f.ctl.Import(t.Context(), &Import{}, imported(t, "Subject: hi\n\nhello\n", ev))
		if err != nil || *got != (Imported{ID: 7}) {
			t.Fatalf("imported: %+v, %v", got, err)
		}
		f.wait(time.Second)
		if l := f.seen(); len(l) != 1 || l[0].At > time.Second {
			t.Errorf("tries: %v", l)
		}
		here, err := f.store.Load(ev.ID)
		if err != nil || here.Tries != 3 || !here.Expires.Equal(ev.Created.Add(4*day)) || !here.NextTry.Equal(ev.Created.Add(9*400*time.Second+400*7*time.Second)) {
			t.Errorf("it is now %+v, %v", here, err)
		}
		if f, err := f.mda.Open(t.Context(), 7); err != nil {
			t.Error(err)
		} else {
			f.Close()
		}

		// The same once more, and another message of that id.
		if got, err = f.ctl.Import(t.Context(), &Import{}, imported(t, "x", ev)); err != nil || !got.Already {
			t.Errorf("a second time: %+v, %v", got, err)
		}
		other := ev
		other.Created = ev.Created.Add(time.Minute)
		if got, err = f.ctl.Import(t.Context(), &Import{}, imported(t, "x", other)); err != nil || got.Already || got.ID == 7 {
			t.Errorf("another message of that id: %+v, %v", got, err)
		}

		// An action that is not there, that does not fit, and what takes its
		// place.
		lost := ev
		lost.ID, lost.Action = 8<<32|1, "gone"
		for _, q := range []Import{{}, {Relay: "local"}, {Local: "out"}} {
			if _, err := f.ctl.Import(t.Context(), &q, imported(t, "x", lost)); err == nil || !strings.Contains(err.Error(), "the configuration has no action") {
				t.Errorf("%+v: %v", q, err)
			}
		}
		if got, err = f.ctl.Import(t.Context(), &Import{Relay: "smart", Try: true}, imported(t, "x", lost)); err != nil || got.ID != 8 {
			t.Errorf("try: %+v, %v", got, err)
		}
		if ok, _ := f.store.Has(8); ok {
			t.Error("a try was stored")
		}
		if _, err = f.ctl.Import(t.Context(), &Import{Relay: "smart"}, imported(t, "x", lost)); err != nil {
			t.Error(err)
		}
	})
}

// TestImportRefuses feeds it what no import wrote.
func TestImportRefuses(t *testing.T) {
	ev, second := testEnvelope(7, 1, "a.example"), testEnvelope(8, 1, "a.example")
	long := binary.BigEndian.AppendUint32(nil, 1<<31)
	whole := new(bytes.Buffer)
	if err := WriteImport(whole, []envelope.Envelope{ev}); err != nil {
		t.Fatal(err)
	}
	file := func(b []byte) *os.File {
		f, err := contentFile(b)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for name, f := range map[string]*os.File{
		"empty": file(nil), "too long": file(long), "cut": file(whole.Bytes()[:whole.Len()-1]),
		"no envelope": imported(t, "x"), "two messages": imported(t, "x", ev, second), "twice": imported(t, "x", ev, ev),
		"no id": imported(t, "x", envelope.Envelope{ID: 7 << 32}),
	} {
		if _, _, err := readImport(f); err == nil {
			t.Errorf("%s: no error", name)
		}
		f.Close()
	}
}
