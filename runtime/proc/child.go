package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"smtpd/runtime/imsg"
)

// Where a process finds the socket of the one that started it, and the lock
// of the spool: that is held until the last process is gone.
const (
	parentFD = 3
	lockFD   = 4
)

// An Order is what the command line of a process that was started here says.
type Order struct {
	Role string
	As   Account
	Root string   // "" is the root of the file system
	Args []string // of this role alone
}

const (
	roleFlag = "--role="
	asFlag   = "--as="
	rootFlag = "--root="
)

// CommandLine returns the arguments of this program that say o.
func (o Order) CommandLine() []string {
	args := []string{"smtpd", roleFlag + o.Role}
	if o.As.UID != 0 {
		args = append(args, asFlag+o.As.ids())
	}
	if o.Root != "" {
		args = append(args, rootFlag+o.Root)
	}
	return append(args, o.Args...)
}

// ParseOrder reads a command line. ok is false if it is not that of a process
// which was started by another: an administrator's.
func ParseOrder(args []string) (o Order, ok bool, err error) {
	if len(args) < 2 {
		return o, false, nil
	}
	if o.Role, ok = strings.CutPrefix(args[1], roleFlag); !ok {
		return o, false, nil
	}
	for i, arg := range args[2:] {
		if ids, is := strings.CutPrefix(arg, asFlag); is {
			buildID() // while the program can be found
			o.As, err = parseIDs(ids)
		} else if root, is := strings.CutPrefix(arg, rootFlag); is {
			o.Root = root
		} else {
			o.Args = args[2+i:]
			break
		}
	}
	return o, true, err
}

// ids writes the user and its groups: UID:GID,GID.
func (a Account) ids() string {
	s := strconv.Itoa(a.UID) + ":" + strconv.Itoa(a.GID)
	for _, g := range a.Groups {
		s += "," + strconv.Itoa(g)
	}
	return s
}

func parseIDs(s string) (Account, error) {
	uid, groups, _ := strings.Cut(s, ":")
	var ids []int
	for _, text := range append([]string{uid}, strings.Split(groups, ",")...) {
		id, err := strconv.Atoi(text)
		if err != nil || id <= 0 {
			return Account{}, fmt.Errorf("no account: %q", s)
		}
		ids = append(ids, id)
	}
	return Account{Name: "user " + uid, UID: ids[0], GID: ids[1], Groups: ids[2:]}, nil
}

// Enter makes the process what o says, for good: its root directory, its
// groups and its user. It is to be called before anything is taken from anyone.
func (o Order) Enter() error {
	if o.As.UID == 0 {
		return errors.New("no account to become")
	}
	if os.Geteuid() != 0 {
		return errors.New("only root starts processes")
	}
	syscall.CloseOnExec(lockFD)
	if o.Root != "" {
		if err := syscall.Chroot(o.Root); err != nil {
			return fmt.Errorf("root directory %s: %w", o.Root, err)
		}
		if err := os.Chdir("/"); err != nil {
			return fmt.Errorf("root directory %s: %w", o.Root, err)
		}
	}
	return o.As.Become()
}

// Deaf keeps the signals that stop a daemon from ending this process: the one
// that started it says when. What it starts itself is not deaf.
func Deaf() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
}

// ParentConn returns the connection to the process that started this one.
func ParentConn() (imsg.Conn, error) {
	conn, err := imsg.FileConn(os.NewFile(parentFD, "parent"))
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", parentFD, err)
	}
	return conn, nil
}

// A Child is what a component that runs as a process has of the others.
type Child struct {
	Files map[string]*os.File // what it was given, by name

	// Retired is closed when it is to take no more work, and to end when all
	// is done.
	Retired chan struct{}

	// Updates brings what has changed. Updated says that it is in force.
	Updates chan map[string]*os.File

	// OnLevel is called with the level of the log, which all processes have
	// in common. It must be set before Run.
	OnLevel func(slog.Level)

	// Traces has lines of the log copied; it may be nil, and must be set
	// before Run.
	Traces Traces

	given map[string]*os.File // for the next update
	conn  imsg.Conn
	mu    sync.Mutex
	links map[string]*imsg.Link
	final bool
}

// Join greets the process that started this one and takes what it gives.
func Join(role string) (*Child, error) {
	conn, err := ParentConn()
	if err != nil {
		return nil, err
	}
	return join(conn, role)
}

func join(conn imsg.Conn, role string) (*Child, error) {
	c := &Child{
		Retired: make(chan struct{}), Updates: make(chan map[string]*os.File, 1),
		conn: conn, links: make(map[string]*imsg.Link),
	}
	hello := greeting{role, buildID()}
	if err := conn.Send(imsg.Frame{Type: frameHello, Data: hello.append(nil)}); err != nil {
		return nil, err
	}
	for {
		f, err := conn.Recv()
		if err != nil {
			return nil, err
		}
		if f.Type == frameStart {
			c.Files, c.given = c.given, nil
			return c, nil
		}
		if err := c.obey(f); err != nil {
			return nil, err
		}
	}
}

// obey does what a frame says that may come at any time.
func (c *Child) obey(f imsg.Frame) error {
	switch f.Type {
	case frameLink:
		return c.takeLink(f)
	case frameFile:
		name, err := parseName(f.Data)
		if err != nil || f.File == nil {
			return fmt.Errorf("file %q: %w", name, imsg.ErrPayload)
		}
		if c.given == nil {
			c.given = make(map[string]*os.File)
		}
		c.given[name] = f.File
		return nil
	case frameLevel:
		level, err := parseLevel(f.Data)
		if err == nil && c.OnLevel != nil {
			c.OnLevel(level)
		}
		return err
	case frameTrace, frameUntrace:
		return c.obeyTrace(f)
	case frameCount:
		return c.sayCounted()
	}
	return fmt.Errorf("frame of type %d: %w", f.Type, imsg.ErrPayload)
}

func (c *Child) takeLink(f imsg.Frame) error {
	name, err := parseName(f.Data)
	if err != nil || f.File == nil {
		return fmt.Errorf("link %q: %w", name, imsg.ErrPayload)
	}
	conn, err := imsg.FileConn(f.File)
	if err != nil {
		return fmt.Errorf("link %q: %w", name, err)
	}
	c.link(name).Attach(conn)
	return nil
}

// Link returns the connection to a component.
func (c *Child) Link(name string) imsg.Conn { return c.link(name) }

func (c *Child) link(name string) *imsg.Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[name]
	if l == nil {
		l = newLink(func() { c.conn.Send(imsg.Frame{Type: frameLost, Data: appendName(nil, name)}) })
		if c.final {
			l.Finish()
		}
		c.links[name] = l
	}
	return l
}

// TellLevel has all processes log from a level on.
func (c *Child) TellLevel(l slog.Level) {
	c.conn.Send(imsg.Frame{Type: frameLevel, Data: appendLevel(nil, l)})
}

// newLink returns a link that calls lost when it has been without a connection
// for a while. Mostly the other side has died, and a new connection to it comes
// unasked.
func newLink(lost func()) *imsg.Link {
	var l *imsg.Link
	l = imsg.NewLink(func(error) {
		time.AfterFunc(relinkPause, func() {
			if l.Down() {
				lost()
			}
		})
	})
	return l
}

// Ready says that the component serves.
func (c *Child) Ready() { c.conn.Send(imsg.Frame{Type: frameReady}) }

// Updated says that the component goes by the last update.
func (c *Child) Updated() { c.conn.Send(imsg.Frame{Type: frameUpdated}) }

// ErrOrphan is the error of Run when the process that started this one is
// gone.
var ErrOrphan = errors.New("the parent is gone")

// Run runs a component until it ends, and ends its context when it is told to
// stop. It returns at once, with the component still running, when there is
// nobody left who could tell it.
func (c *Child) Run(main func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 2)
	go func() {
		err := main(ctx)
		c.sayCounted() // for the last time
		ended <- err
	}()
	go func() { ended <- c.listen(cancel) }()
	return <-ended
}

// listen obeys the parent until it is gone.
func (c *Child) listen(stop func()) error {
	for {
		f, err := c.conn.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return ErrOrphan
		case err != nil:
			return fmt.Errorf("parent: %w", err)
		case f.Type == frameStop:
			c.finish()
			stop()
			continue
		case f.Type == frameRetire:
			close(c.Retired)
			continue
		case f.Type == frameUpdate:
			select {
			case c.Updates <- c.given:
				c.given = nil
				continue
			default:
				return errors.New("parent: an update before the last is in force")
			}
		}
		if err := c.obey(f); err != nil {
			return fmt.Errorf("parent: %w", err)
		}
	}
}

// finish says that lost peers do not come back any more.
func (c *Child) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.final = true
	for _, l := range c.links {
		l.Finish()
	}
}
