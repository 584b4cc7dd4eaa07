package compile_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/tools/txtar"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lang/diag"
)

// dump returns the text of a rule table.
func dump(t testing.TB, rs *compile.Ruleset) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := rs.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// checkTrip checks that a rule table is the same after it was sent, and that
// its JSON is JSON.
func checkTrip(t testing.TB, rs *compile.Ruleset) {
	t.Helper()
	sent := rs.Append(nil)
	got, err := compile.Decode(sent)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dump(t, got), dump(t, rs)) {
		t.Fatalf("changed on the way:\n%s\nwas:\n%s", dump(t, got), dump(t, rs))
	}
	if !bytes.Equal(got.Append(nil), sent) {
		t.Fatal("encodes differently after it was decoded")
	}
	var b bytes.Buffer
	if err := rs.DumpJSON(&b); err != nil || !json.Valid(b.Bytes()) {
		t.Fatalf("not JSON (%v): %s", err, b.Bytes())
	}
}

// sample returns a rule table that uses the whole language.
func sample(t testing.TB) *compile.Ruleset {
	t.Helper()
	ar, err := txtar.ParseFile("testdata/golden/everything.txtar")
	if err != nil {
		t.Fatal(err)
	}
	f, list := lang.Parse("smtpd.conf", lang.Options{Text: ar.Files[0].Data})
	rs, compiled := compile.Draft(f, hostfacts.Unnamed())
	if rs == nil || list.Has(diag.Language) {
		t.Fatal(list, compiled)
	}
	return rs
}

func TestDecodeRefuses(t *testing.T) {
	sent := sample(t).Append(nil)
	if _, err := compile.Decode(sent); err != nil {
		t.Fatal(err)
	}
	for n := range len(sent) {
		if _, err := compile.Decode(sent[:n]); err == nil {
			t.Fatalf("took the first %d of %d bytes", n, len(sent))
		}
	}
	if _, err := compile.Decode(append(sent[:len(sent):len(sent)], 0)); err == nil {
		t.Error("took a byte too many")
	}
}

// TestDecodeBudget checks that a short input that promises much costs
// little.
func TestDecodeBudget(t *testing.T) {
	sent := sample(t).Append(nil)
	var before, after runtime.MemStats
	for at := range len(sent) {
		hostile := bytes.Clone(sent)
		hostile = append(hostile[:at:at], append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, hostile[at:]...)...)
		runtime.ReadMemStats(&before)
		compile.Decode(hostile)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64*uint64(len(hostile))+1<<16 {
			t.Fatalf("%d bytes took %d bytes of memory", len(hostile), used)
		}
	}
}

// FuzzDecode checks that what Decode takes is a rule table that can be used:
// shown, and sent on.
func FuzzDecode(f *testing.F) {
	f.Add(sample(f).Append(nil))
	f.Add([]byte("smtpd-rules\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if rs, err := compile.Decode(b); err == nil {
			checkTrip(t, rs)
		}
	})
}

// FuzzCompile checks that a text is either explained or compiled, and that
// the rule table can be sent.
func FuzzCompile(f *testing.F) {
	for _, pattern := range []string{"../testdata/language/*.conf", "../testdata/decisions/*.conf"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds in %s: %v", pattern, err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	refuse := func(path string) ([]byte, error) { return nil, os.ErrNotExist }
	f.Fuzz(func(t *testing.T, text []byte) {
		file, parsed := parse("smtpd.conf", lang.Options{Text: text, Open: refuse})
		rs, list := compile.Draft(file, hostfacts.Unnamed())
		if rs != nil && list.Has(diag.Language) || rs == nil && !list.Has(diag.Language) && !parsed.Has(diag.Language) {
			t.Fatalf("rule table %v with findings %v and %v", rs != nil, parsed, list)
		}
		for _, d := range list {
			if p := d.Span.Start; p.IsValid() {
				if _, ok := file.Set.Line(p.Filename, p.Line); !ok {
					t.Fatalf("%v is outside the text", d)
				}
			}
		}
		merged := diag.Merge(file.Set, parsed, list)
		if len(merged) != len(parsed)+len(list) {
			t.Fatalf("%d and %d findings became %d", len(parsed), len(list), len(merged))
		}
		if rs != nil {
			checkTrip(t, rs)
		}
	})
}
