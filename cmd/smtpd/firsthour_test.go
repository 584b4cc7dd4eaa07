package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestFirstHour follows docs/first-hour.md: it writes the files that the page
// shows and types what it types, on ports of its own.
func TestFirstHour(t *testing.T) {
	page, err := os.ReadFile("../../docs/first-hour.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "first_hour.txtar"), txtar.Format(hourScript(t, string(page), dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	buildChecker(t, dir)
	runScripts(t, dir, nil)
}

// hourScript makes a script of a page, with programs in bin. A block is a file, or commands: those
// that the daemon or the time makes different are made commands of the script.
func hourScript(t *testing.T, page, bin string) *txtar.Archive {
	t.Helper()
	ports := strings.NewReplacer("2525", "$PORT", "2587", "$PORT2", "2526", "$PORT3", "$(id -u)", "$UID", "$(id -g)", "$GID", "/tmp/smtpd-hour", "$WORK")
	var script strings.Builder
	fmt.Fprintf(&script, "env PATH=$PATH%c%s\n", filepath.ListSeparator, bin)
	ar := new(txtar.Archive)
	seen := make(map[string]int) // mails in a maildir
	running := make(map[string]bool)
	for n, block := range strings.Split(page, "\n```") {
		head, body, _ := strings.Cut(block, "\n")
		kind, name, _ := strings.Cut(head, " ")
		switch kind {
		case "smtpd.conf", "file":
			if name == "" {
				name = kind
			}
			shown := fmt.Sprintf("shown%d", n)
			ar.Files = append(ar.Files, txtar.File{Name: shown, Data: []byte(ports.Replace(body) + "\n")})
			fmt.Fprintf(&script, "expand %s\ncp %s %s\n", shown, shown, name)
		case "sh":
			for line := range strings.Lines(body) {
				script.WriteString(ports.Replace(hourCommand(strings.TrimSpace(line), seen, running)))
			}
		}
	}
	for name := range running {
		fmt.Fprintf(&script, "finish %s\n", name)
	}
	if len(running) != 2 || len(seen) != 2 {
		t.Errorf("daemons %v and mailboxes %v were read from the page", running, seen)
	}
	ar.Comment = []byte(script.String())
	return ar
}

func hourCommand(line string, seen map[string]int, running map[string]bool) string {
	if args, ok := strings.CutPrefix(line, "smtpd -d "); ok {
		name := strings.Fields(args)[1]
		stop := ""
		if running[name] {
			stop = "finish " + name + "\n"
		}
		running[name] = true
		return stop + "start " + name + " -d " + args + "\n"
	}
	switch line {
	case "mkdir home":
		return "owndir home\n" // which belongs to the one whose it is
	case "sudo -s":
		return "[!root] stop 'the rest is for root'\n"
	}
	if setting, ok := strings.CutPrefix(line, "export "); ok {
		return "env " + setting + "\n"
	}
	if box, ok := strings.CutPrefix(line, "ls "); ok {
		seen[box]++
		return fmt.Sprintf("waitfile %s/* %d\n", box, seen[box])
	}
	command, refused := strings.CutSuffix(line, " # refused")
	not := ""
	if refused {
		not = "! "
	}
	return not + "exec sh -c '" + strings.ReplaceAll(command, "'", "''") + "'\n"
}

// buildChecker puts smtpd-check, which is a program of its own, into a folder.
func buildChecker(t *testing.T, dir string) {
	t.Helper()
	if out, err := exec.Command("go", "build", "-o", dir, "../smtpd-check").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
