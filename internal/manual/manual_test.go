package manual

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"smtpd/internal/ctl"
	"smtpd/lang"
)

// TestKeywords checks that smtpd.conf(5) describes every word of the language
// outside the list of reserved ones.
func TestKeywords(t *testing.T) {
	text := page(t, "smtpd.conf.5")
	text, _, _ = strings.Cut(text, ".Sh RESERVED WORDS")
	described := make(map[string]bool)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ".It ") || strings.HasPrefix(line, ".Cm ") || strings.HasPrefix(line, ".Ic ") {
			for _, word := range strings.Fields(line) {
				described[word] = true
			}
		}
	}
	for _, w := range lang.Keywords() {
		if !described[w] && !useless[w] {
			t.Errorf("smtpd.conf(5) does not describe %q", w)
		}
	}
}

// useless are the words that are reserved and that no statement has.
var useless = map[string]bool{
	"data-line": true, "noop": true, "quit": true, "recipient": true, "rset": true, "smtp-in": true, "smtp-out": true, "tagged": true,
}

// TestCommands checks that smtpctl(8) describes every command.
func TestCommands(t *testing.T) {
	var items []string
	for line := range strings.Lines(page(t, "smtpctl.8")) {
		if strings.HasPrefix(line, ".It ") {
			items = append(items, line)
		}
	}
	for _, c := range ctl.Commands() {
		ok := false
		for _, item := range items {
			ok = ok || says(item, strings.Fields(c))
		}
		if !ok {
			t.Errorf("smtpctl(8) does not describe %q", c)
		}
	}
}

// says reports whether the words of a command stand in an item in their order.
func says(item string, words []string) bool {
	fields := strings.FieldsFunc(item, func(r rune) bool { return strings.ContainsRune(" \n", r) })
	for _, w := range words {
		if strings.HasPrefix(w, "<") {
			continue
		}
		w = strings.TrimPrefix(w, "-")
		i := 0
		for i < len(fields) && fields[i] != w {
			i++
		}
		if i == len(fields) {
			return false
		}
		// Words that exclude each other may stand in any order.
	}
	return true
}

// TestOptions checks that each flag that a program prints in its usage is in
// its page.
func TestOptions(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "..", "cmd", "smtpd", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, usage, _ := strings.Cut(string(source), "const usage = `")
	usage, _, _ = strings.Cut(usage, "`")
	text := page(t, "smtpd.8")
	for _, m := range regexp.MustCompile(`(?m)(?:^|[ \[])--?([a-z-]+|[A-Z])`).FindAllStringSubmatch(usage, -1) {
		flag := m[1]
		if strings.Contains(usage, "--"+flag) {
			flag = "-" + flag
		}
		for _, letter := range letters(flag) {
			if !strings.Contains(text, ".It Fl "+letter) {
				t.Errorf("smtpd(8) does not describe -%s", letter)
			}
		}
	}
}

// letters takes bundled flags apart.
func letters(flag string) []string {
	if strings.HasPrefix(flag, "-") {
		return []string{flag}
	}
	return strings.Split(flag, "")
}

// pages are the manual, with the programs, files and protocols that it is for.
var pages = []string{
	"smtp.1", "smtpd-check.1", "aliases.5", "forward.5", "smtpd.conf.5", "table.5", "smtpd-filters.7",
	"mailq.8", "makemap.8", "newaliases.8", "sendmail.8", "smtpctl.8", "smtpd.8",
}

// TestPages checks that the pages that there are refer to each other, and that
// mandoc has nothing to say of them.
func TestPages(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "man", "*.[1-9]"))
	if err != nil || len(files) != len(pages) {
		t.Errorf("%d pages, want %d: %v", len(files), len(pages), err)
	}
	reference := regexp.MustCompile(`(?m)^\.Xr (\S+) ([1-9])`)
	others := map[string]bool{"syslog.3": true}
	for _, p := range pages {
		others[p] = true
	}
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Log("mandoc is not installed: the pages are not judged by it")
	}
	for _, p := range pages {
		text := page(t, p)
		for _, m := range reference.FindAllStringSubmatch(text, -1) {
			if !others[m[1]+"."+m[2]] {
				t.Errorf("%s refers to %s(%s), which is not there", p, m[1], m[2])
			}
		}
		if mandoc == "" {
			continue
		}
		cmd := exec.Command(mandoc, "-Tlint", "-Wstyle")
		cmd.Stdin = strings.NewReader(text)
		out, _ := cmd.Output()
		for line := range bytes.Lines(out) {
			if !bytes.Contains(line, []byte("referenced manual not found")) { // they are not installed here
				t.Errorf("%s: %s", p, line)
			}
		}
	}
}
