package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigs holds the set-ups of docs/howto.md to what the page says of
// them: nothing is wrong, no stranger can relay, and the policy tests pass.
func TestConfigs(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", "..", "testdata", "configs"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]string)
	for _, b := range fenced(string(page)) {
		name, ok := strings.CutPrefix(b.kind, "smtpd.conf ")
		if !ok {
			t.Errorf("a block of the page is no set-up: %s", b.kind)
		}
		shown[name] = b.text
	}
	dirs, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) != len(shown) {
		t.Errorf("%d set-ups, %d on the page", len(dirs), len(shown))
	}
	for _, d := range dirs {
		t.Run(d.Name(), func(t *testing.T) {
			t.Chdir(filepath.Join(root, d.Name()))
			text, err := os.ReadFile("smtpd.conf")
			if err != nil || string(text) != shown[d.Name()] {
				t.Errorf("the page shows another file: %v", err)
			}
			for command, want := range map[string]int{"check": checked(text), "relay": good, "test": good} {
				var out bytes.Buffer
				status := run([]string{command, "--host", "host", "smtpd.conf"}, &streams{in: strings.NewReader(""), out: &out, err: &out})
				if status != want {
					t.Errorf("%s: status %d\n%s", command, status, out.String())
				}
			}
		})
	}
}

// checked returns the status of the check: words of ours are remarked.
func checked(text []byte) int {
	if bytes.Contains(text, []byte("bare-lf-from")) {
		return remarks
	}
	return good
}
