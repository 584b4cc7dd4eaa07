package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpd/compile"
)

func TestQueueKey(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	for _, test := range []struct {
		name  string
		queue compile.Queue
		stdin string
		want  string
		err   string
	}{
		{"off", compile.Queue{}, "", "", ""},
		{"written", compile.Queue{Encryption: true, Key: key}, "", key, ""},
		{"stdin", compile.Queue{Encryption: true, Key: "stdin"}, key + "\nmore\n", key, ""},
		{"dash without newline", compile.Queue{Encryption: true, Key: "-"}, key, key, ""},
		{"short", compile.Queue{Encryption: true, Key: "stdin"}, "short\n", "", "has 5 bytes, not 32"},
		{"none", compile.Queue{Encryption: true}, key + "\n", "", "has no key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "stdin")
			if err := os.WriteFile(file, []byte(test.stdin), 0o600); err != nil {
				t.Fatal(err)
			}
			stdin, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			got, err := queueKey(&test.queue, stdin)
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("queueKey = %q, %v; want %q, %q", got, err, test.want, test.err)
			}
		})
	}
}
