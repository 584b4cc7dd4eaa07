package parent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"smtpd/compile"
	"smtpd/runtime/imsg"
)

// programs starts the filters that are programs. Each runs once: to start one
// again ends the one before.
type programs struct {
	log     *slog.Logger
	procs   []compile.Proc
	libexec []string
	account string // of those that name none

	mu      sync.Mutex
	running map[string]*exec.Cmd
	waiting sync.WaitGroup
}

// handle starts the program that m names and answers with its end of a stream
// socket.
func (p *programs) handle(m imsg.Message) (imsg.Message, error) {
	if m.File != nil {
		m.File.Close()
	}
	r := imsg.NewReader(m.Data)
	name := r.String()
	if err := r.Close(); err != nil {
		return imsg.Message{}, err
	}
	for i := range p.procs {
		if p.procs[i].Name == name {
			f, err := p.run(&p.procs[i])
			if err != nil {
				err = fmt.Errorf("start filter %s: %w", name, err)
			}
			return imsg.Message{File: f}, err
		}
	}
	return imsg.Message{}, fmt.Errorf("no filter process %q is configured", name)
}

// run starts proc, its command line in a shell as the configuration has it.
func (p *programs) run(proc *compile.Proc) (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.running[proc.Name]; old != nil {
		syscall.Kill(-old.Process.Pid, syscall.SIGKILL)
	}
	command, err := p.command(proc.Command)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", "exec "+command)
	cmd.Env = []string{"PATH=" + systemPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.identity(proc, cmd); err != nil {
		return nil, err
	}
	ours, theirs, err := imsg.Socketpair("filter")
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd.Stdin, cmd.Stdout = theirs, theirs
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		ours.Close()
		return nil, err
	}
	p.running[proc.Name] = cmd
	p.waiting.Go(func() { p.wait(proc.Name, cmd, stderr) })
	return ours, nil
}

// wait logs what the program says on its standard error, and its end.
func (p *programs) wait(name string, cmd *exec.Cmd, stderr io.Reader) {
	logLines(p.log, name, stderr)
	err := cmd.Wait()
	p.log.Info("filter process ended", "filter", name, "how", cmd.ProcessState.String())
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || errors.As(err, new(*exec.ExitError)) {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has left behind
	}
	if p.running[name] == cmd {
		delete(p.running, name)
	}
}

// logLines logs each line of r; of a very long one its pieces.
func logLines(log *slog.Logger, name string, r io.Reader) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if text := printable(strings.TrimRight(string(line), "\r\n")); text != "" {
			log.Info(name + ": " + text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// stop ends all programs and waits for their ends.
func (p *programs) stop() {
	p.mu.Lock()
	for _, cmd := range p.running {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	p.mu.Unlock()
	p.waiting.Wait()
}

// command returns the command line with the directory of the programs that
// come with a mail server before it, if it names none.
func (p *programs) command(line string) (string, error) {
	if strings.HasPrefix(line, "/") {
		return line, nil
	}
	word, _, _ := strings.Cut(line, " ")
	for _, dir := range p.libexec {
		if info, err := os.Stat(filepath.Join(dir, word)); err == nil && info.Mode().IsRegular() {
			return filepath.Join(dir, line), nil
		}
	}
	return "", fmt.Errorf("no program %s in %s", word, strings.Join(p.libexec, ", "))
}

// identity makes cmd run as the user and group, and below the root directory,
// that the configuration names.
func (p *programs) identity(proc *compile.Proc, cmd *exec.Cmd) error {
	name := proc.User
	if name == "" {
		name = p.account
	}
	if os.Geteuid() != 0 {
		return p.ownIdentity(proc)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	group := u.Gid
	if proc.Group != "" {
		g, err := user.LookupGroup(proc.Group)
		if err != nil {
			return err
		}
		group = g.Gid
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(group, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{uint32(gid)}}
	cmd.SysProcAttr.Chroot = proc.Chroot
	cmd.Dir = "/"
	return nil
}

// ownIdentity is what a process that is not root can give: its own.
func (p *programs) ownIdentity(proc *compile.Proc) error {
	u, err := user.Current()
	switch {
	case proc.Chroot != "":
		return errors.New("only root can give it a root directory of its own")
	case proc.User != "" && (err != nil || u.Username != proc.User):
		return fmt.Errorf("only root can run it as user %s", proc.User)
	case proc.Group != "":
		g, gerr := user.LookupGroup(proc.Group)
		if gerr != nil || err != nil || g.Gid != u.Gid {
			return fmt.Errorf("only root can run it as group %s", proc.Group)
		}
	}
	return nil
}

// Program starts the filter process called name and returns its end of a
// stream socket; the caller closes it. One that runs already is ended.
func (c *Client) Program(ctx context.Context, name string) (*os.File, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeProgram, Data: imsg.AppendString(nil, name)})
	if err == nil && m.File == nil {
		err = errors.New("parent answered without a descriptor")
	}
	return m.File, err
}
