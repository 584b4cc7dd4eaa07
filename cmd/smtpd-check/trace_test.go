package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestExplainDecoded explains a report that comes back to an address which
// sender rewriting made: as the daemon does, it is decided about the address
// that this stands for, as internal.
func TestExplainDecoded(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "smtpd.conf")
	if err := os.WriteFile(conf, []byte(`srs key "secret"
action out relay srs
match from any for domain mx.example reject
match from local for domain sender.example action out
`), 0o600); err != nil {
		t.Fatal(err)
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	day := time.Now().Unix() / (24 * 60 * 60) % 1024
	body := string([]byte{digits[day>>5], digits[day&31]}) + "=sender.example=alice"
	hash := sha1.Sum([]byte("secret" + body + "@mx.example"))
	rcpt := "SRS0=" + base64.URLEncoding.EncodeToString(hash[:])[:4] + "=" + body + "@mx.example"
	for _, tt := range []struct {
		sender, rcpt, outcome, decoded string
		rule                           int
	}{
		{"", rcpt, "relay", "alice@sender.example", 2},
		{"", rcpt[:len(rcpt)-10] + "x@mx.example", "reject", "", 1},
		{"a@b.example", rcpt, "reject", "", 1},
	} {
		var out, errs bytes.Buffer
		args := []string{"explain", "--from", "203.0.113.9", "--format", "json", "--mail-from", tt.sender, "--rcpt-to", tt.rcpt, conf}
		if status := run(args, &streams{in: strings.NewReader(""), out: &out, err: &errs}); status != good {
			t.Fatalf("status %d: %s", status, &errs)
		}
		var got trace
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Outcome != tt.outcome || got.Rule != tt.rule || got.Decoded != tt.decoded {
			t.Errorf("from <%s> to <%s>: %s", tt.sender, tt.rcpt, &out)
		}
		if tt.decoded != "" && (got.Expansion.Encoded != tt.rcpt || got.Expansion.Delivery.MX != "sender.example") {
			t.Errorf("%s", &out)
		}
	}
}
