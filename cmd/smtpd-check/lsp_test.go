package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestLSP talks to the program as an editor does.
func TestLSP(t *testing.T) {
	const uri = "file:///etc/mail/smtpd.conf"
	text := "# 😀 mail\ntable t { a }\nmatch for domain <t> action \"out\"\n"
	about := func(line, character int) string {
		return fmt.Sprintf(`"textDocument":{"uri":%q},"position":{"line":%d,"character":%d}`, uri, line, character)
	}
	talk := []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}`,
		`{"jsonrpc":"2.0","method":"initialized","params":{}}`,
		fmt.Sprintf(`{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{"uri":%q,"languageId":"smtpd","version":1,"text":%q}}}`, uri, text),
		`{"jsonrpc":"2.0","id":2,"method":"textDocument/hover","params":{` + about(2, 1) + `}}`,
		`{"jsonrpc":"2.0","id":3,"method":"textDocument/definition","params":{` + about(2, 18) + `}}`,
		`{"jsonrpc":"2.0","id":4,"method":"textDocument/rename","params":{` + about(1, 6) + `,"newName":"mine"}}`,
		`{"jsonrpc":"2.0","id":5,"method":"textDocument/completion","params":{` + about(2, 6) + `}}`,
		`{"jsonrpc":"2.0","id":6,"method":"shutdown"}`,
		`{"jsonrpc":"2.0","method":"exit"}`,
	}
	got := converse(t, talk)
	for i, want := range []string{
		`"renameProvider"`,
		`"code":"undefined-action"`,
		`first that matches`,
		`"start":{"character":6,"line":1}`,
		`"newText":"mine"`,
		`"label":"from"`,
		`"result":null`,
	} {
		if i >= len(got) || !strings.Contains(got[i], want) {
			t.Errorf("answer %d of %d: %s is not in\n%s", i, len(got), want, got[min(i, len(got)-1)])
		}
	}
}

// TestLSPOlderGeneration opens an old configuration: the editor shows one
// finding, whatever the parser of the present language made of it.
func TestLSPOlderGeneration(t *testing.T) {
	const uri = "file:///etc/mail/smtpd.conf"
	text := "table t { a }\nlisten on lo tls certificate x\nlimit mta inet4\naccept for any relay\nreject from any for any\n"
	got := converse(t, []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}`,
		`{"jsonrpc":"2.0","method":"initialized","params":{}}`,
		fmt.Sprintf(`{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{"uri":%q,"languageId":"smtpd","version":1,"text":%q}}}`, uri, text),
		`{"jsonrpc":"2.0","id":2,"method":"shutdown"}`,
		`{"jsonrpc":"2.0","method":"exit"}`,
	})
	if len(got) < 2 || strings.Count(got[1], `"code":"`) != 1 || !strings.Contains(got[1], `"code":"old-generation"`) {
		t.Errorf("got %q, want one finding, old-generation", got)
	}
}

// converse says everything to the program and returns what it answers.
func converse(t *testing.T, talk []string) []string {
	t.Helper()
	var in, out, stderr bytes.Buffer
	for _, m := range talk {
		fmt.Fprintf(&in, "Content-Length: %d\r\n\r\n%s", len(m), m)
	}
	cmd := exec.Command("smtpd-check", "lsp")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return messages(t, &out)
}

// TestLSPReview expects the findings of the check about the policy, and
// those away that a comment allows.
func TestLSPReview(t *testing.T) {
	const rules = "listen on 0.0.0.0\naction \"r\" relay\nmatch from any for any action \"r\""
	for text, found := range map[string]bool{
		rules + "\n": true,
		rules + " # smtpd-check: allow open-relay reason=\"a trap for spam\"\n": false,
	} {
		got := converse(t, []string{
			`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`,
			fmt.Sprintf(`{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{"uri":"file:///smtpd.conf","text":%q}}}`, text),
			`{"jsonrpc":"2.0","id":2,"method":"shutdown"}`,
			`{"jsonrpc":"2.0","method":"exit"}`,
		})
		if len(got) != 3 || strings.Contains(got[1], `"code":"open-relay"`) != found {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// messages takes the output of a server apart and writes each message anew,
// with its members in order.
func messages(t *testing.T, r io.Reader) (list []string) {
	t.Helper()
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return list
		}
		length, ok := strings.CutPrefix(strings.TrimSpace(line), "Content-Length: ")
		n, numErr := strconv.Atoi(length)
		if err != nil || !ok || numErr != nil {
			t.Fatalf("not a header: %q %v", line, err)
		}
		body := make([]byte, n+2)
		if _, err := io.ReadFull(in, body); err != nil {
			t.Fatal(err)
		}
		var m any
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		text, _ := json.Marshal(m)
		list = append(list, string(text))
	}
}

// TestLSPGarbage expects what is no message to be named as that.
func TestLSPGarbage(t *testing.T) {
	cmd := exec.Command("smtpd-check", "lsp")
	cmd.Stdin = strings.NewReader("match from any reject\n")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != broken || !strings.Contains(string(out), "not the language server protocol") {
		t.Errorf("%v: %s", err, out)
	}
}
