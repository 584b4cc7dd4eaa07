package parent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRunAgent checks that the command which stands for a method can be run by
// a shell behind a wrapper, and does what the method does.
func TestRunAgent(t *testing.T) {
	home := t.TempDir()
	for _, c := range []struct {
		method     Method
		target     string
		junk       bool
		file, line string
	}{
		{Maildir, filepath.Join(home, "it's mail"), false, "it's mail/new/*", "Subject: hello"},
		{Maildir, filepath.Join(home, "junk"), true, "junk/.Junk/new/*", "X-Spam: yes"},
		{Mbox, filepath.Join(home, "box"), false, "box", "From bob@example.net "},
	} {
		d := testDelivery(home, c.method, c.target)
		d.Junk = c.junk
		command := AgentCommand("/usr/sbin/smtpd", d)
		status, complaint := runAgent(t, command, home, "X-Spam: yes\n"+testMessage)
		files, _ := filepath.Glob(filepath.Join(home, c.file))
		if os.Geteuid() == 0 {
			if status != exTempFail && status != exUnavailable || len(files) > 0 {
				t.Errorf("%s as root: status %d, files %v", command, status, files)
			}
			continue
		}
		if status != 0 || len(files) != 1 {
			t.Fatalf("%s: status %d, %s, files %v", command, status, complaint, files)
		}
		if b, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(b), c.line) {
			t.Errorf("%s wrote %q, %v", command, b, err)
		}
	}
}

// runAgent runs the command of a method as a shell would.
func runAgent(t *testing.T, command, home, text string) (status int, complaint string) {
	t.Helper()
	env := map[string]string{
		"HOME": home, "USER": "alice", "SENDER": "bob@example.net",
		"RECIPIENT": "alice@mail.example.org", "ORIGINAL_RECIPIENT": "alice@example.org",
	}
	var said bytes.Buffer
	status, ok := RunAgent(shellWords(command), strings.NewReader(text), func(k string) string { return env[k] }, &said)
	if !ok {
		t.Fatalf("%s is not for the agent", command)
	}
	return status, said.String()
}

// shellWords splits what quote has quoted.
func shellWords(command string) (words []string) {
	var word strings.Builder
	quoted := false
	for i := 0; i < len(command); i++ {
		switch c := command[i]; {
		case c == '\'':
			quoted = !quoted
		case c == '\\' && !quoted:
			i++
			word.WriteByte(command[i])
		case c == ' ' && !quoted:
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	return append(words, word.String())
}

func TestRunAgentRefuses(t *testing.T) {
	if _, ok := RunAgent([]string{"smtpd", "-n"}, nil, os.Getenv, nil); ok {
		t.Error("a check of the configuration is taken for a delivery")
	}
	for _, args := range []string{"", "maildir", "command x", "maildir rcpt-to x", "mbox junk x", "lmtp rcpt-to x y"} {
		var said bytes.Buffer
		all := append([]string{"smtpd", agentWord}, strings.Fields(args)...)
		if status, ok := RunAgent(all, nil, os.Getenv, &said); !ok || status != exUsage || said.Len() == 0 {
			t.Errorf("%q: status %d, %v", args, status, ok)
		}
	}
}
