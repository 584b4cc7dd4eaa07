package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// shownPages are the pages whose commands TestShownCommands runs. The others
// have a test of their own that runs theirs: TestFirstHour, TestConfigs,
// TestAnalysisPage, TestPolicyPage and those of docs/migrate.md.
var shownPages = []string{"README.md", "docs/operate.md", "docs/queue.md", "docs/tables.md", "docs/troubleshooting.md"}

// shownElsewhere are the commands that do not end, that change the machine, or
// that need more files than are worth having twice, with what runs them.
var shownElsewhere = map[string]string{
	"smtpd-check migrate smtpd.conf":           "TestMigrateGuide",
	"smtpd-check import postfix /etc/postfix":  "TestImportGuide",
	"smtpd --trial run":                        "TestTrial",
	"newaliases":                               "table_database.txtar",
	"smtpctl web":                              "web.txtar",
	"smtpctl trace 9f3c01d2":                   "trace.txtar",
	"smtpctl queue import /var/spool/smtpd":    "queue_import.txtar",
	"smtpctl queue import -n /var/spool/smtpd": "queue_import.txtar",
}

var (
	shownLine    = regexp.MustCompile(`(?m)^    (?:\$ )?(?:go run \./cmd/)?((?:smtpd|smtpd-check|smtpctl|makemap|newaliases|mailq|sendmail|smtp)(?: .*)?)$`)
	shownComment = regexp.MustCompile(` +#.*$|  +.*$`)
)

// TestShownCommands runs the commands that the pages show, against a daemon
// that has a mail in its queue.
func TestShownCommands(t *testing.T) {
	ar, err := txtar.ParseFile("testdata/shown.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	buildChecker(t, dir)
	var script strings.Builder
	fmt.Fprintf(&script, "env PATH=$PATH%c%s\n%s", filepath.ListSeparator, dir, ar.Comment)
	elsewhere := maps.Clone(shownElsewhere)
	n := 0
	for _, page := range shownPages {
		text, err := os.ReadFile(filepath.Join("..", "..", page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range shownLine.FindAllStringSubmatch(string(text), -1) {
			command := strings.TrimSpace(shownComment.ReplaceAllString(m[1], ""))
			if shownElsewhere[command] != "" {
				delete(elsewhere, command)
				continue
			}
			n++
			fmt.Fprintf(&script, "# %s: %s\nexec sh -c '%s'\n", page, command, strings.ReplaceAll(shownPlaces.Replace(command), "'", "''"))
		}
	}
	if n < 20 || len(elsewhere) > 0 {
		t.Errorf("%d commands were found; these are not shown any more: %q", n, slices.Collect(maps.Keys(elsewhere)))
	}
	ar.Comment = append([]byte(script.String()), "finish d\n"...)
	if err := os.WriteFile(filepath.Join(dir, "shown.txtar"), txtar.Format(ar), 0o600); err != nil {
		t.Fatal(err)
	}
	runScripts(t, dir, nil)
}

// shownPlaces puts what the script has in the place of what a page names.
var shownPlaces = strings.NewReplacer(
	"/etc/mail/smtpd.conf", "smtpd.conf", "/etc/mail", "etc/mail",
	" ID", ` $(smtpctl show queue | cut -d"|" -f1)`,
)
