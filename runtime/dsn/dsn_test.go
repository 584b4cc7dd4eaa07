package dsn

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"smtpd/runtime/envelope"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const original = "From: a@example.org\nSubject: hello\n\tfolded\n\nthe body\n.\nFrom here\n"

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func bounced(kind envelope.BounceKind, rcpt string) envelope.Envelope {
	a := envelope.ParseAddress(rcpt)
	return envelope.Envelope{
		Type: envelope.Bounce, BounceKind: kind,
		Sender: envelope.ParseAddress("sender@example.org"), Rcpt: a, Dest: a,
		Arrival: noon, Deadline: noon.Add(96 * time.Hour), LastTry: noon.Add(time.Minute),
	}
}

// cases are the reports of the golden archive, by name of its sections.
func cases() map[string]*Report {
	failed := bounced(envelope.Failed, "a@one.example")
	failed.Status, failed.Error, failed.Remote = "5.1.1", "550 5.1.1 no such user here", "mx.one.example"
	failed.EnvID, failed.ORcpt = "QQ314159+2B1", "rfc822;A+2Btag@one.example"
	local := bounced(envelope.Failed, "b@two.example")
	local.Dest = envelope.ParseAddress("real@two.example")
	local.Error = "mail box is full, and what it says about that goes on for longer than one line of a header field has room for"
	full := failed
	full.Ret = "FULL"
	delayed := bounced(envelope.Delayed, "a@one.example")
	delayed.Status, delayed.Error, delayed.BounceDelay = "4.4.1", "Network error on destination MXs", 4*time.Hour
	delivered := bounced(envelope.Delivered, "a@one.example")
	delivered.Status = "2.0.0"
	relayed := delivered
	relayed.BounceKind = envelope.Relayed
	hostile := failed
	hostile.Error = "550 no\r\n\r\n--=_id--\r\nBcc: x\x00\x1b[2J\u2028end"
	hostile.Remote, hostile.ORcpt = "evil\nAction: delivered", "rfc822;x+0D+0AAction: delivered"
	hostile.Rcpt.User = "x\ny"
	ascii := failed
	ascii.Dest, ascii.Error = envelope.ParseAddress("jörg@bücher.example"), "550 5.1.1 kein Postfach für jörg"
	ascii.ORcpt = `utf-8;j\x{F6}rg@b\x{FC}cher.example`
	global := ascii
	global.Flags, global.Sender = envelope.SMTPUTF8, envelope.ParseAddress("émile@exemple.example")
	globalFull := global
	globalFull.Ret = "FULL"
	return map[string]*Report{
		"failed, utf-8 to an old sender": New("mx.example", []envelope.Envelope{ascii}),
		"failed, utf-8":                  New("mx.example", []envelope.Envelope{global}),
		"failed, utf-8, full":            New("mx.example", []envelope.Envelope{globalFull}),
		"failed":                         New("mx.example", []envelope.Envelope{failed, local}),
		"failed, full":                   New("mx.example", []envelope.Envelope{full}),
		"delayed":                        New("mx.example", []envelope.Envelope{delayed}),
		"delivered":                      New("mx.example", []envelope.Envelope{delivered}),
		"relayed":                        New("mx.example", []envelope.Envelope{relayed}),
		"failed, hostile":                New("mx.example", []envelope.Envelope{hostile}),
	}
}

func write(t testing.TB, r *Report, original io.Reader) []byte {
	t.Helper()
	r.Date, r.ID = noon.Add(time.Hour), "id"
	var b bytes.Buffer
	if err := r.Write(&b, original); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	file := filepath.Join("testdata", "reports.txtar")
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reports := cases()
	if len(ar.Files) != len(reports) {
		t.Errorf("%d sections for %d reports", len(ar.Files), len(reports))
	}
	for i := range ar.Files {
		f := &ar.Files[i]
		r := reports[f.Name]
		if r == nil {
			t.Errorf("no report for section %q", f.Name)
			continue
		}
		got := write(t, r, strings.NewReader(original))
		if *update {
			f.Data = got
		}
		if !bytes.Equal(got, f.Data) {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", f.Name, got, f.Data)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStructure reads reports back with a parser that is not ours.
func TestStructure(t *testing.T) {
	for name, r := range cases() {
		parts := parse(t, write(t, r, strings.NewReader(original)))
		if len(parts) != 3 {
			t.Errorf("%s: %d parts", name, len(parts))
			continue
		}
		if strings.Count(parts[1], "Final-Recipient:") != len(r.Recipients) || strings.Count(parts[1], "\nAction:") != len(r.Recipients) {
			t.Errorf("%s: fields of %d recipients:\n%s", name, len(r.Recipients), parts[1])
		}
		want := "From: a@example.org\nSubject: hello\n\tfolded\n"
		if r.Full {
			want = original
		}
		if parts[2] != want {
			t.Errorf("%s: returned %q, want %q", name, parts[2], want)
		}
	}
}

// parse returns the contents of the parts of a report.
func parse(t testing.TB, report []byte) []string {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(report))
	if err != nil {
		t.Fatal(err)
	}
	typ, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || typ != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type %q: %v", m.Header.Get("Content-Type"), err)
	}
	if m.Header.Get("Auto-Submitted") != "auto-replied" || m.Header.Get("Message-ID") == "" {
		t.Errorf("header %v", m.Header)
	}
	var parts []string
	mr := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, string(b))
	}
}

func TestWithoutOriginal(t *testing.T) {
	if parts := parse(t, write(t, cases()["failed"], nil)); len(parts) != 2 {
		t.Errorf("%d parts", len(parts))
	}
}

// TestLongHeader returns a header line that no buffer holds.
func TestLongHeader(t *testing.T) {
	header := "X: " + strings.Repeat("y", 100_000) + "\n"
	parts := parse(t, write(t, cases()["failed"], strings.NewReader(header+"\nbody\n")))
	if parts[2] != header {
		t.Errorf("returned %d bytes of %d", len(parts[2]), len(header))
	}
}

func TestStatusOf(t *testing.T) {
	for _, tt := range []struct {
		status string
		kind   envelope.BounceKind
		want   string
	}{
		{"5.1.1", envelope.Failed, "5.1.1"},
		{"4.4.7", envelope.Failed, "5.4.7"},
		{"5.7.1", envelope.Delayed, "4.7.1"},
		{"", envelope.Failed, "5.0.0"},
		{"550", envelope.Failed, "5.0.0"},
		{"5.1.1 x", envelope.Failed, "5.0.0"},
		{"5.1.1\nX: y", envelope.Failed, "5.0.0"},
		{"", envelope.Relayed, "2.0.0"},
	} {
		if got := statusOf(tt.status, tt.kind); got != tt.want {
			t.Errorf("statusOf(%q, %d) = %q, want %q", tt.status, tt.kind, got, tt.want)
		}
	}
}

// FuzzReport checks that no text of the network adds a field, a recipient or
// a part.
func FuzzReport(f *testing.F) {
	f.Add("550 no\r\nAction: delivered", "rfc822;a+0Ab", "mx\n\n", "x\ny@z")
	f.Add("\xff\xfe\u2028 --=_id", "a;b;c", "", "")
	f.Fuzz(func(t *testing.T, text, orcpt, remote, rcpt string) {
		ev := bounced(envelope.Failed, rcpt)
		ev.Error, ev.ORcpt, ev.Remote, ev.EnvID, ev.Status = text, orcpt, remote, text, text
		parts := parse(t, write(t, New(rcpt, []envelope.Envelope{ev}), strings.NewReader(original)))
		if len(parts) != 3 {
			t.Fatalf("%d parts", len(parts))
		}
		for _, block := range strings.Split(strings.Trim(parts[1], "\n"), "\n\n") {
			h, err := textproto.NewReader(bufio.NewReader(strings.NewReader(block + "\n\n"))).ReadMIMEHeader()
			if err != nil {
				t.Fatalf("%q: %v", block, err)
			}
			for name, values := range h {
				if len(values) != 1 {
					t.Fatalf("%s %d times: %q", name, len(values), block)
				}
			}
		}
	})
}

// TestParameters has what SMTPUTF8 and REQUIRETLS change in a report.
func TestParameters(t *testing.T) {
	ev := envelope.Envelope{
		Type: envelope.Bounce, BounceKind: envelope.Failed, Ret: "FULL",
		Sender: envelope.Address{User: "a", Domain: "example.org"}, Dest: envelope.Address{User: "ü", Domain: "example.com"},
	}
	r := New("here.example", []envelope.Envelope{ev})
	if text := string(write(t, r, strings.NewReader(original))); !r.Full || !strings.Contains(text, "\nFinal-Recipient: utf-8; \\x{FC}@example.com\n") {
		t.Error(text)
	}
	ev.Flags = envelope.RequireTLS
	if r := New("here.example", []envelope.Envelope{ev}); r.Full {
		t.Error("a message that requires TLS is returned whole")
	}
}
