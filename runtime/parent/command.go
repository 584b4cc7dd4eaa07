package parent

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"smtpd/runtime/envelope"
)

const (
	// systemPath is the PATH of delivery commands.
	systemPath = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/usr/local/sbin"

	// grace is how long the output of a command that has ended is waited for:
	// something it started may hold it open for ever.
	grace = time.Second

	// maxLine is how much of the end of a command's output is kept.
	maxLine = 1024
)

// command runs the command of d in a shell with msg as its standard input.
func (a *agent) command(ctx context.Context, d Delivery, msg *message) Result {
	in, feed, err := os.Pipe()
	if err != nil {
		return failure(err)
	}
	defer in.Close()
	defer feed.Close()
	out := new(tail)

	cmd := exec.Command("/bin/sh", "-c", cmp.Or(d.Wrapper, d.Target))
	cmd.Env = environment(d, a.absolute(d.As.Home))
	cmd.Dir = "/"
	if home := a.local(a.absolute(d.As.Home)); isDir(home) {
		cmd.Dir = home
	}
	cmd.Stdin = in
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = grace
	// A session of its own makes it and its children one group to kill.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.uid == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{
			Uid: d.As.UID, Gid: d.As.GID, Groups: []uint32{d.As.GID}}
	}
	if err := cmd.Start(); err != nil {
		return failure(fmt.Errorf("start command: %w", err))
	}
	stop := context.AfterFunc(ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })

	fed := make(chan error, 1)
	go func() {
		_, err := io.Copy(feed, msg.reader())
		feed.Close()
		fed <- err
	}()
	err = cmd.Wait()
	timedOut := !stop()
	// This process keeps the reading end too, so a command that ends without
	// reading a message that fits into the pipe has been given all of it, as
	// it would have with any timing. Else the copy is stuck, and is ended.
	feed.SetWriteDeadline(time.Now().Add(grace))
	unread := <-fed
	if timedOut {
		return Result{TempFail, "4.3.0", "Error (terminated; timeout)"}
	}
	return commandResult(err, cmd.ProcessState, out.line(), unread)
}

// commandResult returns what the end of a command means. unread is the error
// of giving it the message.
func commandResult(err error, state *os.ProcessState, line string, unread error) Result {
	if state == nil {
		return failure(fmt.Errorf("wait for command: %w", err))
	}
	status := state.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled() && line != "":
		return Result{TempFail, "4.3.0", `Error ("` + line + `")`}
	case status.Signaled():
		return Result{TempFail, "4.3.0", fmt.Sprintf("Error (terminated; signal %d)", status.Signal())}
	case status.ExitStatus() == 0 && unread != nil:
		return Result{TempFail, "4.3.0", "Error (mda exited prematurely)"}
	}
	return exitResult(status.ExitStatus(), line)
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// environment returns all the variables of a delivery command: nothing of
// this process's own environment is passed on.
func environment(d Delivery, home string) []string {
	env := []string{
		"PATH=" + systemPath,
		"SHELL=/bin/sh",
		"HOME=" + home,
		"USER=" + d.User,
		"LOGNAME=" + d.User,
		"SENDER=" + d.Sender.String(),
		"RECIPIENT=" + address(d.Dest),
		"ORIGINAL_RECIPIENT=" + address(d.Rcpt),
		"LOCAL=" + d.Rcpt.User,
		"DOMAIN=" + d.Rcpt.Domain,
	}
	if d.SubAddress != "" {
		env = append(env, "EXTENSION="+d.SubAddress)
	}
	for i, v := range env {
		env[i] = oneLine(v)
	}
	return env
}

// address returns user@domain, or the user alone if there is no domain.
func address(a envelope.Address) string {
	if a.Domain == "" {
		return a.User
	}
	return a.String()
}

// oneLine replaces the bytes that end a variable or a line: no address that
// was accepted holds one, and nothing that reads the environment expects one.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 0 || r == '\n' || r == '\r' {
			return ':'
		}
		return r
	}, s)
}

// A tail keeps the last bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-maxLine):]...)
	if n := len(t.b) - maxLine; n > 0 {
		t.b = t.b[:copy(t.b, t.b[n:])]
	}
	return len(p), nil
}

// line returns the last line that is not blank, made printable.
func (t *tail) line() string {
	b := bytes.TrimRight(t.b, " \t\r\n")
	return printable(string(b[bytes.LastIndexByte(b, '\n')+1:]))
}
