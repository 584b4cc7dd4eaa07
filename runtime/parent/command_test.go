package parent

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpd/runtime/envelope"
)

func TestCommandInput(t *testing.T) {
	a, home := newTestAgent(t)
	long := "Subject: long\n\n" + strings.Repeat("0123456789abcde\n", 100_000)
	for _, text := range []string{testMessage, long, ""} {
		d := testDelivery(home, Command, "cat >out; pwd >cwd")
		wantDelivered(t, deliver(t, a, d, text))
		got, err := os.ReadFile(filepath.Join(home, "out"))
		if err != nil || string(got) != d.Header+text {
			t.Errorf("command read %d bytes, %v, want %d", len(got), err, len(d.Header+text))
		}
		if cwd, _ := os.ReadFile(filepath.Join(home, "cwd")); strings.TrimSpace(string(cwd)) != home {
			t.Errorf("working directory %s, want %s", cwd, home)
		}
	}
}

// TestCommandEnvironment checks that a command sees the variables of
// OpenSMTPD's delivery agents and nothing else.
func TestCommandEnvironment(t *testing.T) {
	t.Setenv("SECRET", "x")
	a, home := newTestAgent(t)
	d := testDelivery(home, Command, "/usr/bin/env >env")
	d.Rcpt = envelope.Address{User: "$(id)+lists\nLD_PRELOAD=x", Domain: "example.org"}
	d.SubAddress = "lists"
	want := []string{
		"DOMAIN=example.org", "EXTENSION=lists", "HOME=" + home, "LOCAL=$(id)+lists:LD_PRELOAD=x", "LOGNAME=alice",
		"ORIGINAL_RECIPIENT=$(id)+lists:LD_PRELOAD=x@example.org", "PATH=" + systemPath,
		"RECIPIENT=alice@mail.example.org", "SENDER=bob@example.net", "SHELL=/bin/sh", "USER=alice",
	}
	check := func(want []string) {
		t.Helper()
		wantDelivered(t, deliver(t, a, d, testMessage))
		b, err := os.ReadFile(filepath.Join(home, "env"))
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(b)), "\n"), func(v string) bool {
			// Set by shells for themselves.
			return strings.HasPrefix(v, "PWD=") || strings.HasPrefix(v, "_=") || strings.HasPrefix(v, "SHLVL=") || strings.HasPrefix(v, "OLDPWD=")
		})
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("environment:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	check(want)

	d.SubAddress, d.Sender = "", envelope.Address{}
	want = slices.DeleteFunc(want, func(v string) bool { return strings.HasPrefix(v, "EXTENSION=") })
	want[slices.Index(want, "SENDER=bob@example.net")] = "SENDER="
	check(want)
}

func TestCommandWithoutHome(t *testing.T) {
	a, home := newTestAgent(t)
	out := filepath.Join(home, "cwd")
	wantDelivered(t, deliver(t, a, testDelivery("/nonexistent", Command, "pwd >"+out), testMessage))
	if b, _ := os.ReadFile(out); string(b) != "/\n" {
		t.Errorf("working directory %q, want /", b)
	}
}

func TestCommandEnds(t *testing.T) {
	big := "x\n\n" + strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name, command, message string
		want                   Result
	}{
		{"success", "cat", testMessage, delivered},
		{"small message not read", "exit 0", testMessage, delivered},
		{"large message not read", "exit 0", big, Result{TempFail, "4.3.0", "Error (mda exited prematurely)"}},
		{"large message not read and failed", "exit 67", big, Result{PermFail, "5.1.1", "Error (user unknown: exited abnormally)"}},
		{"no name", "exit 1", testMessage, Result{PermFail, "5.3.0", "Error (exited abnormally)"}},
		{"no name with output", "echo no; exit 1", testMessage, Result{PermFail, "5.3.0", `Error ("no")`}},
		{"last line", "echo a; echo b >&2; echo; exit 75", testMessage, Result{TempFail, "4.3.0", `Error (temporary failure: "b")`}},
		{"hostile output", `printf 'a\nb\001"\303\251\033[2J\r\n'; exit 77`, testMessage, Result{PermFail, "5.7.0", `Error (permission denied: "b?"?` + `?[2J")`}},
		{"not found", "/nonexistent/deliver", testMessage, Result{TempFail, "4.3.0", ""}},
		{"not executable", "/etc/passwd", testMessage, Result{TempFail, "4.3.0", ""}},
		{"killed", "kill -TERM $$", testMessage, Result{TempFail, "4.3.0", "Error (terminated; signal 15)"}},
		{"killed below the shell", "sh -c 'kill -KILL $$'; exit $?", testMessage, Result{TempFail, "4.3.0", ""}},
		{"leaves a child", "sleep 100 & exit 0", testMessage, delivered},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, home := newTestAgent(t)
			got := deliver(t, a, testDelivery(home, Command, c.command), c.message)
			if c.want.Text == "" {
				got.Text = ""
			}
			if got != c.want {
				t.Errorf("result = %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestCommandOutputIsBounded(t *testing.T) {
	a, home := newTestAgent(t)
	r := deliver(t, a, testDelivery(home, Command, "yes | tr -d '\\n' | head -c 3000000; echo; exit 1"), testMessage)
	if r.Outcome != PermFail || len(r.Text) > maxText+20 {
		t.Errorf("outcome %d, text of %d bytes", r.Outcome, len(r.Text))
	}
}

// TestCommandTimeout checks that a command that takes too long is ended.
func TestCommandTimeout(t *testing.T) {
	a, home := newTestAgent(t)
	a.limit = time.Millisecond
	r := deliver(t, a, testDelivery(home, Command, "sleep 1000"), testMessage)
	if want := (Result{TempFail, "4.3.0", "Error (terminated; timeout)"}); r != want {
		t.Errorf("result = %+v, want %+v", r, want)
	}
}

// TestCommandTimeoutEndsAll checks that with a command everything ends that it
// has started. What runs holds a pipe open, so the pipe tells both that it has
// begun and that it is gone.
func TestCommandTimeoutEndsAll(t *testing.T) {
	a, home := newTestAgent(t)
	pipe := filepath.Join(home, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	ctx, timeOut := context.WithCancel(t.Context())
	result := make(chan Result, 1)
	d, content := testDelivery(home, Command, "exec 9>pipe; sleep 1000 & wait"), testContent(t, testMessage)
	go func() { result <- a.deliver(ctx, d, content) }()
	held, err := os.Open(pipe) // returns when the other end is open
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	timeOut()
	if r, want := <-result, (Result{TempFail, "4.3.0", "Error (terminated; timeout)"}); r != want {
		t.Errorf("result = %+v, want %+v", r, want)
	}
	if _, err := io.ReadAll(held); err != nil { // comes to an end with the last that holds it
		t.Error(err)
	}
}

func TestExitMapping(t *testing.T) {
	for code := 0; code < 256; code++ {
		want := PermFail
		switch {
		case code == 0:
			want = Delivered
		case code == 71, code == 75, code == 126, code == 127, code > 128 && code <= 192:
			want = TempFail
		}
		r := exitResult(code, "")
		if r.Outcome != want {
			t.Errorf("exit %d: outcome %d, want %d", code, r.Outcome, want)
		}
		if class := map[Outcome]byte{Delivered: '2', TempFail: '4', PermFail: '5'}[want]; r.Status[0] != class {
			t.Errorf("exit %d: status %s, want class %c", code, r.Status, class)
		}
	}
	for code, want := range map[int]string{
		64: `Error (command line usage error: "x")`, 65: `Error (data format error: "x")`, 66: `Error (cannot open input: "x")`,
		67: `Error (user unknown: "x")`, 68: `Error (host name unknown: "x")`, 69: `Error (service unavailable: "x")`,
		70: `Error (internal software error: "x")`, 71: `Error (system resource problem: "x")`,
		72: `Error (critical OS file missing: "x")`, 73: `Error (can't create user output file: "x")`,
		74: `Error (input/output error: "x")`, 75: `Error (temporary failure: "x")`, 76: `Error (remote error in protocol: "x")`,
		77: `Error (permission denied: "x")`, 78: `Error (local configuration error: "x")`, 79: `Error ("x")`,
	} {
		if got := exitResult(code, "x").Text; got != want {
			t.Errorf("exit %d: %s, want %s", code, got, want)
		}
	}
}

// TestCommandAsUser checks that root runs a command as the account, with none
// of its own groups.
func TestCommandAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	a, _ := newTestAgent(t)
	a.uid = 0
	d := testDelivery("/", Command, "echo $(id -u) $(id -g) $(id -G); exit 1")
	d.As.UID, d.As.GID = 65533, 65532
	if r := deliver(t, a, d, testMessage); r.Text != `Error ("65533 65532 65532")` {
		t.Errorf("ran as: %s", r.Text)
	}
}
