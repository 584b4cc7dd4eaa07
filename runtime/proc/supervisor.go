package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"smtpd/runtime/imsg"
	"smtpd/runtime/stat"
)

// Self is the name of the process that supervises, in links.
const Self = "parent"

// A Process says how a component runs as a process of its own.
type Process struct {
	Name  string
	As    Account
	Root  string // its root directory; "" is that of the system
	Front bool   // takes work from outside: it is stopped first

	Levels bool // may change the level of the log for all
	Stays  bool // is not of a generation, but there for all of them

	// Files returns what the process is given each time that it is started.
	Files func() ([]NamedFile, error)
}

// A NamedFile is a descriptor that a process is given.
type NamedFile struct {
	Name string
	File *os.File
}

// A Plan says which processes there are.
type Plan struct {
	Log       *slog.Logger
	Level     *slog.LevelVar // of Log
	Processes []Process
	Links     [][2]string // pairs of names that talk; one may be Self
	Lock      *Lock       // of the spool
	Stderr    *os.File    // where processes log
	Traces    Traces      // of Log; may be nil
	Local     func(ctx context.Context) error
}

// Times of supervision.
const (
	firstPause   = 50 * time.Millisecond // before a lost process is started again
	longestPause = 30 * time.Second
	forgiveness  = time.Second     // of life that make up for one death
	relinkPause  = time.Second     // before a lost link is made again
	sendPatience = 5 * time.Second // for a process to take what it is given
	stopPatience = 20 * time.Second
)

// A Supervisor starts the processes of a plan, introduces them to each other,
// and starts those again that die.
type Supervisor struct {
	plan   Plan
	exe    *executable
	procs  []*process
	ownMu  sync.Mutex
	own    map[string]*imsg.Link // of this process, by the other's name
	events chan func() error
	done   chan struct{} // closed when events are not taken any more
	phase  phase
	ready  func() // called once, when all serve

	generation int         // of the newest processes
	template   [][2]string // the links of each
	joining    *joining    // a generation that does not serve yet

	gone     stat.Total // what those have counted that have ended
	censuses []*census
	traces   map[uint32]*tracing
	traced   uint32 // orders so far
}

type phase int

const (
	starting phase = iota
	serving
	stoppingFront
	stoppingRest
)

// A process is a component and the process that it has at present.
type process struct {
	Process
	role       string // the name without its generation
	generation int    // 0 for those that stay
	retired    bool   // not started again if it is at the front
	leaving    bool   // not started again, and forgotten when it has ended

	cmd     *exec.Cmd // nil: there is none
	conn    imsg.Conn
	greeted bool // it may be linked with others
	ready   bool
	born    time.Time
	deaths  int // not made up for

	updated func() // called when it goes by what has changed

	counted  []byte // what it said last that it has counted
	counting []byte // what it is saying
}

// NewSupervisor prepares p.
func NewSupervisor(p Plan) (*Supervisor, error) {
	exe, err := openExecutable()
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		plan: p, exe: exe, template: p.Links, generation: 1,
		own:    make(map[string]*imsg.Link),
		events: make(chan func() error), done: make(chan struct{}),
	}
	for _, q := range p.Processes {
		r := &process{Process: q, role: q.Name, generation: 1}
		if q.Stays {
			r.generation = 0
		}
		s.procs = append(s.procs, r)
	}
	for _, pair := range p.Links {
		s.linkOwn(pair)
	}
	return s, nil
}

// linkOwn prepares a link of this process, if pair is one.
func (s *Supervisor) linkOwn(pair [2]string) {
	for i, name := range pair {
		if other := pair[1-i]; name == Self {
			s.ownMu.Lock()
			s.own[other] = newLink(func() { s.post(func() error { return s.linkLost(Self, other) }) })
			s.ownMu.Unlock()
		}
	}
}

// Link returns this process's connection to the component called name.
func (s *Supervisor) Link(name string) imsg.Conn {
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	return s.own[name]
}

// post has f called by Run, one at a time with all others.
func (s *Supervisor) post(f func() error) {
	select {
	case s.events <- f:
	case <-s.done:
	}
}

// Run starts all processes, calls ready when they serve, and keeps them until
// ctx ends; it then stops them, those at the front first. A process that
// cannot start at first is an error; one that dies later is started again.
func (s *Supervisor) Run(ctx context.Context, ready func()) (err error) {
	s.ready = ready
	defer s.exe.close()
	local, stopLocal := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLocal()
	var localErr error
	localEnded := make(chan struct{})
	go func() {
		defer close(localEnded)
		localErr = s.plan.Local(local)
	}()
	defer func() {
		s.killAll()
		close(s.done)
		s.finishOwn()
		stopLocal()
		<-localEnded
		err = errors.Join(err, localErr)
	}()

	for _, p := range s.procs {
		if err := s.spawn(p); err != nil {
			return fmt.Errorf("start %s: %w", p.Name, err)
		}
	}
	stop, gone := ctx.Done(), localEnded
	for {
		select {
		case f := <-s.events:
			if err := f(); err != nil {
				return err
			}
		case <-gone:
			gone = nil
			if s.phase < stoppingRest {
				return fmt.Errorf("%s: ended by itself", Self)
			}
		case <-stop:
			stop = nil
			s.phase = stoppingFront
			s.stopThose(true)
		}
		if s.phase == stoppingFront && !s.anyAlive(true) {
			s.phase = stoppingRest
			s.finishOwn()
			stopLocal()
			s.stopThose(false)
		}
		if s.phase == stoppingRest && !s.anyAlive(false) {
			return nil
		}
	}
}

// Alive reports whether the supervisor does its work, once it has come to
// that.
func (s *Supervisor) Alive(ctx context.Context) bool {
	there := make(chan struct{})
	s.post(func() error { close(there); return nil })
	select {
	case <-there:
		return true
	case <-s.done:
	case <-ctx.Done():
	}
	return false
}

func (s *Supervisor) named(name string) *process {
	for _, p := range s.procs {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// spawn starts the process of p. What it is given follows its greeting.
func (s *Supervisor) spawn(p *process) error {
	o := Order{Role: p.role, As: p.As, Root: p.Root}
	cmd, conn, err := s.launch(o.CommandLine(), s.plan.Lock.f, syscall.SysProcAttr{})
	if err != nil {
		return err
	}
	p.cmd, p.conn, p.greeted, p.ready, p.born = cmd, conn, false, false, time.Now()
	go func() {
		s.hear(p, cmd, conn)
		err := cmd.Wait()
		s.post(func() error { return s.died(p, cmd, err) })
	}()
	return nil
}

// launch starts this program with other arguments, a socket to it as its
// descriptor 3, and, if it is not nil, also as the next one.
func (s *Supervisor) launch(args []string, also *os.File, as syscall.SysProcAttr) (*exec.Cmd, imsg.Conn, error) {
	// Of a session of its own: a key pressed at the terminal of the daemon is
	// for the parent alone.
	as.Setsid = true
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	conn, err := imsg.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	cmd := &exec.Cmd{
		Path: s.exe.path, Args: args, Env: environment(),
		Stderr: s.plan.Stderr, ExtraFiles: []*os.File{theirs},
		SysProcAttr: &as,
	}
	if also != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, also)
	}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return cmd, conn, nil
}

// environment returns what of ours a process gets: where it finds programs
// and the time, and how its runtime is set.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name == "TZ" || name == "PATH" || strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "SSL_CERT_") {
			env = append(env, v)
		}
	}
	return env
}

// hear passes on what a process says until it is gone.
func (s *Supervisor) hear(p *process, cmd *exec.Cmd, conn imsg.Conn) {
	for {
		f, err := conn.Recv()
		if err != nil {
			// Whoever cannot be heard cannot be told to stop.
			cmd.Process.Kill()
			return
		}
		s.post(func() error { return s.heard(p, cmd, f) })
	}
}

// heard does what a frame of p asks for. A process that says what it must not
// is killed.
func (s *Supervisor) heard(p *process, cmd *exec.Cmd, f imsg.Frame) error {
	if f.File != nil {
		f.File.Close()
	}
	if p.cmd != cmd {
		return nil // of one that has died
	}
	err := s.serve(p, f)
	if err != nil {
		s.plan.Log.Error("component misbehaves", "component", p.Name, "error", err)
		cmd.Process.Kill()
	}
	return nil
}

func (s *Supervisor) serve(p *process, f imsg.Frame) error {
	switch f.Type {
	case frameHello:
		var g greeting
		if err := g.parse(f.Data); err != nil {
			return err
		}
		if p.greeted || g.Role != p.role || g.Build != buildID() {
			return fmt.Errorf("greets as %s of another build", g.Role)
		}
		p.greeted = true
		return s.give(p)
	case frameReady:
		p.ready = true
		if s.joining != nil && s.joining.generation == p.generation {
			s.joined()
			return nil
		}
		if s.phase == serving {
			s.plan.Log.Info("restarted child", "component", p.Name)
		}
		s.announce()
		return nil
	case frameLost:
		name, err := parseName(f.Data)
		if err != nil {
			return err
		}
		return s.linkLost(p.Name, s.meant(p, name))
	case frameUpdated:
		if p.updated == nil {
			return errors.New("goes by what it was not told")
		}
		p.updated()
		p.updated = nil
		return nil
	case frameCounted:
		return s.heardCounted(p, f.Data)
	case frameLevel:
		level, err := parseLevel(f.Data)
		if err == nil && !p.Levels {
			err = errors.New("changes the level of the log")
		}
		if err == nil {
			s.tellLevel(level)
		}
		return err
	}
	return fmt.Errorf("frame of type %d", f.Type)
}

// tellLevel has every process log from a level on, this one too. Those that
// are started later are told of it in what they are given.
func (s *Supervisor) tellLevel(l slog.Level) {
	s.plan.Level.Set(l)
	for _, p := range s.procs {
		if p.greeted && s.send(p, imsg.Frame{Type: frameLevel, Data: appendLevel(nil, l)}) != nil {
			p.cmd.Process.Kill()
		}
	}
}

// give hands p all that it needs, and has it start.
func (s *Supervisor) give(p *process) error {
	for _, pair := range s.plan.Links {
		if pair[0] == p.Name || pair[1] == p.Name {
			if err := s.link(pair); err != nil {
				return err
			}
		}
	}
	files, err := p.Files()
	if err != nil {
		return err
	}
	frames := make([]imsg.Frame, 0, len(files)+1)
	for _, f := range files {
		frames = append(frames, imsg.Frame{Type: frameFile, Data: appendName(nil, f.Name), File: f.File})
	}
	if err := s.send(p, append(frames, imsg.Frame{Type: frameStart})...); err != nil {
		return err
	}
	return s.traceAll(p)
}

// send sends frames to p. One that does not take them is as good as dead.
func (s *Supervisor) send(p *process, frames ...imsg.Frame) error {
	cmd := p.cmd
	late := time.AfterFunc(sendPatience, func() { cmd.Process.Kill() })
	defer late.Stop()
	return p.conn.Send(frames...)
}

// link introduces two components to each other, if both are there. One that
// stays and was started anew has nothing of those that are retired.
func (s *Supervisor) link(pair [2]string) error {
	var retired, stays bool
	for _, name := range pair {
		p := s.named(name)
		if name != Self && (p == nil || !p.greeted) {
			return nil
		}
		if p != nil {
			retired, stays = retired || p.retired, stays || p.Stays
		}
	}
	if retired && stays {
		return nil
	}
	a, b, err := socketpair()
	if err != nil {
		return err
	}
	err = s.introduce(pair[0], pair[1], a)
	return errors.Join(err, s.introduce(pair[1], pair[0], b))
}

// introduce gives the component called name its end of a link.
func (s *Supervisor) introduce(name, other string, end *os.File) error {
	if name != Self {
		p := s.named(name)
		if s.send(p, imsg.Frame{Type: frameLink, Data: appendName(nil, s.shown(p, other)), File: end}) != nil {
			p.cmd.Process.Kill() // its death is dealt with as any other
		}
		return nil
	}
	conn, err := imsg.FileConn(end)
	if err == nil {
		s.own[other].Attach(conn)
	}
	return err
}

// linkLost has a link made again, if both components are there. One that is
// not will be linked when it is back.
func (s *Supervisor) linkLost(name, other string) error {
	for _, pair := range s.plan.Links {
		if pair != [2]string{name, other} && pair != [2]string{other, name} {
			continue
		}
		if s.phase > serving {
			return nil
		}
		if err := s.link(pair); err != nil {
			s.plan.Log.Error("components cannot be linked", "one", name, "other", other, "error", err)
			time.AfterFunc(relinkPause, func() { s.post(func() error { return s.linkLost(name, other) }) })
		}
		return nil
	}
	return nil // the other one has left
}

// announce tells that all serve, once.
func (s *Supervisor) announce() {
	for _, p := range s.procs {
		if !p.ready {
			return
		}
	}
	if s.phase == starting {
		s.phase = serving
		s.ready()
	}
}

// died deals with the end of a process.
func (s *Supervisor) died(p *process, cmd *exec.Cmd, err error) error {
	if p.cmd != cmd {
		return nil
	}
	p.conn.Close()
	p.cmd, p.greeted, p.ready = nil, false, false
	s.keepCounted(p)
	how := ending(cmd, err)
	switch {
	case s.phase == starting:
		return fmt.Errorf("%s did not start: %s", p.Name, how)
	case s.phase > serving:
		if !cmd.ProcessState.Success() {
			s.plan.Log.Warn("lost child while stopping", "component", p.Name, "how", how)
		}
		return nil
	case p.leaving:
		s.forget(p)
		return nil
	case s.joining != nil && s.joining.generation == p.generation:
		s.forget(p)
		s.abort(fmt.Errorf("%s did not start: %s", p.role, how))
		return nil
	case p.retired && p.Front:
		if p.updated != nil {
			p.updated()
		}
		s.forget(p)
		s.dissolve(p.generation)
		return nil
	}
	pause := p.pause(time.Since(p.born))
	s.plan.Log.Warn("lost child", "component", p.Name, "how", how, "restart", pause)
	s.restart(p, pause)
	return nil
}

// pause returns how long to wait before p is started again after it has lived
// for life. It doubles with each death that life has not made up for.
func (p *process) pause(life time.Duration) time.Duration {
	p.deaths = max(0, p.deaths-int(min(life/forgiveness, 1000)))
	d := longestPause
	if p.deaths < 10 {
		d = min(d, firstPause<<p.deaths)
	}
	p.deaths++
	return d
}

func (s *Supervisor) restart(p *process, pause time.Duration) {
	time.AfterFunc(pause, func() {
		s.post(func() error {
			if s.phase > serving {
				return nil
			}
			if p.leaving {
				s.forget(p)
				return nil
			}
			if err := s.spawn(p); err != nil {
				pause := p.pause(0)
				s.plan.Log.Error("component cannot be started", "component", p.Name, "error", err, "restart", pause)
				s.restart(p, pause)
			}
			return nil
		})
	})
}

// ending says how a process ended.
func ending(cmd *exec.Cmd, err error) string {
	if cmd.ProcessState == nil {
		return err.Error()
	}
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return fmt.Sprintf("terminated; signal %d (%v)", st.Signal(), st.Signal())
	}
	return cmd.ProcessState.String()
}

// stopThose tells the processes at the front, or the rest, to end.
func (s *Supervisor) stopThose(front bool) {
	for _, p := range s.procs {
		if p.Front != front || p.cmd == nil {
			continue
		}
		if s.send(p, imsg.Frame{Type: frameStop}) != nil {
			p.cmd.Process.Kill()
		}
		cmd := p.cmd
		time.AfterFunc(stopPatience, func() { cmd.Process.Kill() })
	}
}

func (s *Supervisor) anyAlive(front bool) bool {
	for _, p := range s.procs {
		if p.Front == front && p.cmd != nil {
			return true
		}
	}
	return false
}

// killAll ends what is left at once.
func (s *Supervisor) killAll() {
	s.phase = stoppingRest
	for _, p := range s.procs {
		if p.cmd != nil {
			p.cmd.Process.Kill()
		}
	}
	for _, p := range s.procs {
		for p.cmd != nil {
			(<-s.events)()
		}
	}
}

// finishOwn ends the conversations of this process when the others do.
func (s *Supervisor) finishOwn() {
	for _, l := range s.own {
		l.Finish()
	}
}

// A UserProcess is a process that runs as a user.
type UserProcess struct {
	imsg.Conn
	cmd  *exec.Cmd
	once sync.Once
}

// StartUser starts a process of role that is the user from its first
// instruction on, with no group but gid.
func (s *Supervisor) StartUser(role string, uid, gid uint32, args ...string) (*UserProcess, error) {
	return s.startUser(role, args, syscall.SysProcAttr{Credential: credential(uid, gid)})
}

// StartAnyUser starts a process of role that is a, without further groups, and
// may act for every user, though not as root: what that comes to is for the
// process to confine.
func (s *Supervisor) StartAnyUser(role string, a Account, args ...string) (*UserProcess, error) {
	as := syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}}
	if err := anyUser(&as); err != nil {
		return nil, err
	}
	return s.startUser(role, args, as)
}

func credential(uid, gid uint32) *syscall.Credential {
	return &syscall.Credential{Uid: uid, Gid: gid, Groups: []uint32{gid}}
}

func (s *Supervisor) startUser(role string, args []string, as syscall.SysProcAttr) (*UserProcess, error) {
	if as.Credential.Uid == 0 {
		return nil, errors.New("nothing is done as user id 0")
	}
	cmd, conn, err := s.launch(Order{Role: role, Args: args}.CommandLine(), nil, as)
	if err != nil {
		return nil, err
	}
	return &UserProcess{Conn: conn, cmd: cmd}, nil
}

// Close ends the connection, at which the process ends, and waits for that.
func (u *UserProcess) Close() error {
	err := u.Conn.Close()
	u.once.Do(func() {
		late := time.AfterFunc(stopPatience, func() { u.cmd.Process.Kill() })
		u.cmd.Wait()
		late.Stop()
	})
	return err
}
