package queue

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// published compares how many points of a kind a test has reached with what
// docs/durability.md says: it must not say more.
func published(t *testing.T, row string, points int64) {
	t.Helper()
	for _, cells := range durabilityRows(t) {
		if !strings.Contains(cells[0], row) {
			continue
		}
		n, err := strconv.ParseInt(cells[2], 10, 64)
		if err != nil || points < n {
			t.Errorf("docs/durability.md says %q points for %q, it were %d", cells[2], row, points)
		}
		return
	}
	t.Errorf("docs/durability.md has no row %q", row)
}

// durabilityRows returns the cells of the crash matrix.
func durabilityRows(t *testing.T) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/durability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, matrix, _ := strings.Cut(string(b), "## Crash matrix")
	matrix, _, _ = strings.Cut(matrix, "\n## ")
	for line := range strings.Lines(matrix) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		if len(cells) != 4 || strings.Contains(line, "---") || strings.Contains(line, "what is injected") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

// TestDurabilityPage checks that the page names tests and programs that there
// are.
func TestDurabilityPage(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") {
			b, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(b)
		}
	}
	rows := durabilityRows(t)
	if len(rows) < 10 {
		t.Errorf("%d rows", len(rows))
	}
	for _, cells := range rows {
		name := strings.Trim(cells[3], "`")
		if strings.Contains(name, "/") {
			if _, err := os.Stat("../../" + name); err != nil {
				t.Error(err)
			}
		} else if !regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(name) + `\(`).MatchString(tests.String()) {
			t.Errorf("there is no test %q", name)
		}
	}
}
