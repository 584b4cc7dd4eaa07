package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestBatchRecorded has explain --batch decide what OpenSMTPD 7.8 decided:
// the same outcome by the same rule.
func TestBatchRecorded(t *testing.T) {
	dir := t.TempDir()
	host := filepath.Join(dir, "facts")
	// The machine of the recordings has no addresses but those of loopback.
	if err := os.WriteFile(host, []byte("name recorder.invalid\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("../../testdata/decisions/*.conf")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	n := 0
	for _, path := range paths {
		recorded, err := os.ReadFile(strings.TrimSuffix(path, ".conf") + ".tsv")
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(recorded), "\n"), "\n")
		var in, want bytes.Buffer
		for _, line := range lines {
			row := strings.Split(line, "\t")
			in.WriteString(asJSON(t, row))
			want.WriteString(strings.TrimSpace(row[7]+" "+row[8]) + "\n")
			n++
		}
		var out, errs bytes.Buffer
		if status := run([]string{"explain", "--batch", "--host", host, path}, &streams{in: &in, out: &out, err: &errs}); status != good {
			t.Fatalf("%s: status %d, %s", path, status, &errs)
		}
		got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(got) != len(lines) {
			t.Fatalf("%s: %d verdicts for %d transactions", path, len(got), len(lines))
		}
		for i, w := range strings.Split(strings.TrimSuffix(want.String(), "\n"), "\n") {
			if g := inWords(t, got[i]); g != w {
				t.Errorf("%s line %d: %s, want %s", path, i+1, g, w)
			}
		}
	}
	if n < 8000 {
		t.Errorf("only %d decisions found", n)
	}
}

// asJSON writes a recorded transaction as the command reads it.
func asJSON(t *testing.T, row []string) string {
	t.Helper()
	absent := func(s string) string {
		if s == "-" {
			return ""
		}
		return s
	}
	d := described{
		Source: row[0], TLS: row[1] == "y", Auth: absent(row[2]), Helo: row[3], RDNS: "client.invalid",
		MailFrom: absent(row[4]), RcptTo: row[5], Internal: row[6] == "y",
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// inWords writes a verdict as the recordings do: outcome and rule.
func inWords(t *testing.T, line string) string {
	t.Helper()
	var v verdict
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	outcome := v.Outcome
	if outcome == "relay" && v.Host != "" {
		outcome = "relay-via " + v.Host
	}
	return outcome + " " + strconv.Itoa(v.Rule)
}

func TestEachLine(t *testing.T) {
	long := strings.Repeat("x", 70_000) // more than the buffer
	tests := []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"line ends", "a\nb\r\n\nc", `1"a" 2"b" 3"" 4"c" `},
		{"longer than the buffer", long + "\n" + long + "y\nz\n", fmt.Sprintf("1%q 2%q 3%q ", long, long+"y", "z")},
		{"too long", strings.Repeat("x", 100_001) + "\na\n", `1nil 2"a" `},
		{"much too long", "a\n" + strings.Repeat("x", 1_000_000) + "\nb\n", `1"a" 2nil 3"b" `},
		{"too long without an end", strings.Repeat("x", 200_000), `1nil `},
		{"as long as may be", strings.Repeat("x", 99_999) + "\n", fmt.Sprintf("1%q ", strings.Repeat("x", 99_999))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			err := eachLine(strings.NewReader(tt.in), 100_000, func(n int, line []byte) error {
				if line == nil {
					fmt.Fprintf(&b, "%dnil ", n)
				} else {
					fmt.Fprintf(&b, "%d%q ", n, line)
				}
				return nil
			})
			if err != nil || b.String() != tt.want {
				t.Errorf("%v, got %.200s want %.200s", err, b.String(), tt.want)
			}
		})
	}
}

// FuzzParsePlain holds the fast reader to encoding/json: what it takes means
// the same there.
func FuzzParsePlain(f *testing.F) {
	for _, s := range []string{
		`{"source":"192.0.2.7","tag":"NET","tls":false,"auth":"carol","helo":"h","rdns":"","mail_from":"","rcpt_to":"c@d.example","internal":true}`,
		` { "rcpt_to" : "a@b" , "tag" : "" } `, `{"tls":tru}`, `{"tls":truefalse}`, `{"tag":null}`, `{"auth":"\u0041"}`, `{"a":"b"}`,
		`{}`, `{"tls":true,}`, `{"tls":true,"tls":false}`, `{"tls":true} x`, `{"TLS":true}`, "{\"helo\":\"\xff\"}", "\v{\"internal\":true}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var fast, slow described
		if !parsePlain(line, &fast) {
			return
		}
		if err := json.Unmarshal(line, &slow); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if (fast.Tag == nil) != (slow.Tag == nil) || fast.Tag != nil && *fast.Tag != *slow.Tag {
			t.Fatalf("%q: tags differ", line)
		}
		fast.Tag, slow.Tag, fast.tag = nil, nil, ""
		if fast != slow {
			t.Fatalf("%q: %+v, want %+v", line, fast, slow)
		}
	})
}

// TestParsePlain checks that what programs write is read fast.
func TestParsePlain(t *testing.T) {
	text, err := json.Marshal(described{Source: "192.0.2.7", Tag: new(string), RcptTo: "c@d.example"})
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]bool{
		string(text):                    true,
		`{ "rcpt_to" : "a@b" }`:         true,
		`{}`:                            false,
		`{"tag":null}`:                  false,
		`{"helo":"\u0041"}`:             false,
		`{"tls":true,"tls":true}`:       false,
		`{"rcpt_to":"a@b","other":"x"}`: false,
	} {
		if got := parsePlain([]byte(line), new(described)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// BenchmarkBatch decides transactions by a configuration of a thousand
// domains: an operation is one line.
func BenchmarkBatch(b *testing.B) {
	dir := b.TempDir()
	var conf, in bytes.Buffer
	conf.WriteString("listen on lo tag NET\naction in maildir\naction out relay host smtp://mx.example.net\n")
	for i := range 1000 {
		fmt.Fprintf(&conf, "match from any for domain \"d%d.example.org\" action in\n", i)
	}
	conf.WriteString("match auth from any for any action out\n")
	path := filepath.Join(dir, "smtpd.conf")
	if err := os.WriteFile(path, conf.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		fmt.Fprintf(&in, `{"source":"192.0.2.7","tag":"NET","tls":false,"auth":"carol","helo":"h","rdns":"client.invalid",`+
			`"mail_from":"a@b.example","rcpt_to":"c@d%d.example.org","internal":false}`+"\n", i%1100)
	}
	var out, errs bytes.Buffer
	b.ResetTimer()
	if status := run([]string{"explain", "--batch", path}, &streams{in: &in, out: &out, err: &errs}); status != good {
		b.Fatalf("status %d: %s", status, &errs)
	}
	if n := bytes.Count(out.Bytes(), []byte{'\n'}); n != b.N {
		b.Fatalf("%d verdicts for %d transactions", n, b.N)
	}
}
