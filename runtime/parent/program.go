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

// programs starts what one component has started: the filters of mfa, or the
// programs that serve tables of lka. Each runs once: to start one again ends
// the one before.
type programs struct {
	log     *slog.Logger
	what    string // "filter" or "table", which it is the name of
	command func(name string) (*exec.Cmd, error)

	mu      sync.Mutex
	running map[string]*exec.Cmd
	waiting sync.WaitGroup
}

// An installation is where programs are and whom they run as if nobody says
// otherwise.
type installation struct {
	libexec []string
	account string
}

// newFilters returns the programs of filters: command lines in a shell, as the
// configuration has them.
func newFilters(log *slog.Logger, procs []compile.Proc, in installation) *programs {
	return newPrograms(log, "filter", func(name string) (*exec.Cmd, error) {
		for i := range procs {
			if procs[i].Name == name {
				return in.filter(&procs[i])
			}
		}
		return nil, errors.New("no such process is configured")
	})
}

// newTablePrograms returns the programs that serve tables.
func newTablePrograms(log *slog.Logger, tables []compile.Table, in installation) *programs {
	return newPrograms(log, "table", func(name string) (*exec.Cmd, error) {
		for i := range tables {
			if program, argument, ok := tables[i].Program(); ok && tables[i].Name == name {
				return in.table(name, program, argument)
			}
		}
		return nil, errors.New("no program serves it")
	})
}

func newPrograms(log *slog.Logger, what string, command func(name string) (*exec.Cmd, error)) *programs {
	return &programs{log: log, what: what, command: command, running: make(map[string]*exec.Cmd)}
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
	f, err := p.run(name)
	if err != nil {
		err = fmt.Errorf("start %s %s: %w", p.what, name, err)
	}
	return imsg.Message{File: f}, err
}

func (p *programs) run(name string) (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.running[name]; old != nil {
		syscall.Kill(-old.Process.Pid, syscall.SIGKILL)
	}
	cmd, err := p.command(name)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := imsg.Socketpair(p.what)
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
	p.running[name] = cmd
	p.waiting.Go(func() { p.wait(name, cmd, stderr) })
	return ours, nil
}

// wait logs what the program says on its standard error, and its end.
func (p *programs) wait(name string, cmd *exec.Cmd, stderr io.Reader) {
	logLines(p.log, name, stderr)
	err := cmd.Wait()
	p.log.Info(p.what+" process ended", p.what, name, "how", cmd.ProcessState.String())
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

// filter returns the command of a filter.
func (in installation) filter(proc *compile.Proc) (*exec.Cmd, error) {
	word, rest, _ := strings.Cut(proc.Command, " ")
	program, err := in.find(word)
	if err != nil {
		return nil, err
	}
	cmd := newCommand("/bin/sh", "-c", "exec "+strings.TrimSuffix(program+" "+rest, " "))
	return cmd, in.identity(proc, cmd)
}

// table returns the command of a program that serves a table, in no shell: its
// first argument is the name of the table and the second, if there is one,
// what the configuration says of it.
func (in installation) table(name, program, argument string) (*exec.Cmd, error) {
	path, err := in.find(program)
	if err != nil {
		return nil, err
	}
	cmd := newCommand(path)
	cmd.Args = []string{name}
	if argument != "" {
		cmd.Args = append(cmd.Args, argument)
	}
	if err := in.identity(new(compile.Proc), cmd); err != nil || cmd.SysProcAttr.Credential == nil {
		return cmd, err
	}
	// What it reads may be open to a group of the account, as it is to lka.
	cmd.SysProcAttr.Credential.Groups, err = groupsOf(in.account)
	return cmd, err
}

func newCommand(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=" + systemPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// find returns the path of a program: one without is in a directory of the
// programs that come with a mail server.
func (in installation) find(program string) (string, error) {
	if strings.HasPrefix(program, "/") {
		return program, nil
	}
	for _, dir := range in.libexec {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("no program %s in %s", program, strings.Join(in.libexec, ", "))
}

// groupsOf returns the groups that an account is a member of.
func groupsOf(account string) ([]uint32, error) {
	u, err := user.Lookup(account)
	if err != nil {
		return nil, err
	}
	names, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	var groups []uint32
	for _, name := range names {
		gid, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return nil, err
		}
		groups = append(groups, uint32(gid))
	}
	return groups, nil
}

// identity makes cmd run as the user and group, and below the root directory,
// that the configuration names.
func (in installation) identity(proc *compile.Proc, cmd *exec.Cmd) error {
	name := proc.User
	if name == "" {
		name = in.account
	}
	if os.Geteuid() != 0 {
		return ownIdentity(proc)
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
func ownIdentity(proc *compile.Proc) error {
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

// Program starts the filter process called name, or the program that serves the
// table called name if lka asks, and returns its end of a
// stream socket; the caller closes it. One that runs already is ended.
func (c *Client) Program(ctx context.Context, name string) (*os.File, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeProgram, Data: imsg.AppendString(nil, name)})
	if err == nil && m.File == nil {
		err = errors.New("parent answered without a descriptor")
	}
	return m.File, err
}
