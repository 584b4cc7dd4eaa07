package where

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestPage checks that docs/queue.md describes the fields that there are.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/queue.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[kind]string{words: "text", count: "number", duration: "time", size: "size"}
	for _, name := range Fields() {
		if row := fmt.Sprintf("| `%s` | %s | %s |\n", name, kinds[fields[name].kind], About(name)); !strings.Contains(string(b), row) {
			t.Errorf("docs/queue.md has no row %q", row)
		}
	}
	if n := strings.Count(string(b), "\n| `"); n != len(fields) {
		t.Errorf("docs/queue.md has rows of %d fields, there are %d", n, len(fields))
	}
}
