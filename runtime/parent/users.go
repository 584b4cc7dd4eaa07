package parent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"smtpd/runtime/imsg"
)

// A Starter starts a process that is the user from its first instruction on
// and serves parent's requests over the connection, with Main. Close ends it.
type Starter func(uid, gid uint32) (imsg.Conn, error)

// Limits of the processes of users.
const (
	maxUsers  = 64               // more than mda delivers to at the same time
	idleLimit = 10 * time.Second // a process that has nothing to do that long is ended

	// forwardLimit bounds the opening of a .forward: a home may be on a file
	// server that does not answer, and a session waits for it.
	forwardLimit = 30 * time.Second
)

// users has what is asked for done by processes of the users. This process is
// root and touches nothing that a user could have put in its way.
type users struct {
	start   Starter
	courier *courier // in the file system
	lmtp    *courier
	syncs   dirSyncs
	boxes   string // directory of the mailboxes of the system

	mu      sync.Mutex
	workers map[identity]*worker
	freed   chan struct{} // closed and replaced when a worker may be ended
	running sync.WaitGroup
}

type identity struct{ uid, gid uint32 }

// A worker is the process of a user.
type worker struct {
	id     identity
	client *Client
	end    context.CancelFunc
	busy   int
	since  time.Time // not busy
}

func newUsers(start Starter) *users {
	return &users{
		start: start, courier: new(courier), lmtp: new(courier), boxes: systemMailboxes,
		workers: make(map[identity]*worker), freed: make(chan struct{}),
	}
}

// handle answers the requests of mfa and mda.
func (u *users) handle(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	switch {
	case m.Type == typeDeliver && m.File != nil:
		d, err := parseDelivery(m.Data)
		if err != nil {
			m.File.Close()
			return imsg.Message{}, fmt.Errorf("parent: delivery: %w", err)
		}
		return imsg.Message{Data: appendResult(nil, u.deliver(ctx, d, m.File))}, nil
	case m.Type == typeForward && m.File == nil:
		account, err := parseAccount(m.Data)
		if err != nil {
			return imsg.Message{}, fmt.Errorf("parent: account: %w", err)
		}
		f, err := u.forward(ctx, account)
		return forwardMessage(f, err), nil
	case m.Type == typeCourier && m.File == nil:
		f, err := u.courier.introduce(ctx)
		return imsg.Message{File: f}, err
	}
	if m.File != nil {
		m.File.Close()
	}
	return imsg.Message{}, fmt.Errorf("parent: no requests of type %d", m.Type)
}

// deliver has d done by its user. It owns content.
func (u *users) deliver(ctx context.Context, d Delivery, content *os.File) Result {
	err := refuseRoot(d)
	if err == nil && d.Method == Mbox {
		err = u.makeBox(d)
	}
	if c := u.courier.get(); c != nil && err == nil && d.forCourier() {
		r, err := c.Deliver(ctx, d, content)
		if err != nil {
			return failure(fmt.Errorf("courier: %w", err))
		}
		return r
	}
	if err == nil && d.Method == LMTP && !d.runsCommand() {
		if r, done := u.deliverLMTP(ctx, d, content); done {
			content.Close()
			return r
		}
	}
	var w *worker
	if err == nil {
		w, err = u.acquire(ctx, identity{d.As.UID, d.As.GID})
	}
	if err != nil {
		content.Close()
		return failure(err)
	}
	defer u.release(w)
	r, err := w.client.Deliver(ctx, d, content)
	if ctx.Err() != nil {
		// Whoever asked is gone, and will ask again: this must not be done
		// twice if it can be helped.
		w.end()
	}
	if err != nil {
		return failure(fmt.Errorf("delivery process of %s: %w", d.As.Name, err))
	}
	return r
}

// deliverLMTP has d done by the process that speaks LMTP for all users, and
// keeps its sessions for the next of them. It is not done if there is none, or
// if the server's socket may be open to the user alone.
func (u *users) deliverLMTP(ctx context.Context, d Delivery, content *os.File) (r Result, done bool) {
	c := u.lmtp.get()
	if c == nil {
		return r, false
	}
	fd, err := unix.FcntlInt(content.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		r, err = c.Deliver(ctx, d, os.NewFile(uintptr(fd), content.Name()))
	}
	if err != nil {
		return failure(fmt.Errorf("LMTP: %w", err)), true
	}
	return r, r.Status != statusNoPerm
}

// forward has the .forward of an account opened by its user, who could have it
// be anything: what is not a file of that user is refused here.
func (u *users) forward(ctx context.Context, a Account) (*os.File, error) {
	if a.UID == 0 {
		return nil, nil // nothing is delivered to root
	}
	ctx, cancel := context.WithTimeout(ctx, forwardLimit)
	defer cancel()
	client := u.courier.get()
	if client == nil {
		w, err := u.acquire(ctx, identity{a.UID, a.GID})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTemporary, err)
		}
		defer u.release(w)
		client = w.client
	}
	f, err := client.Forward(ctx, a)
	if f == nil || err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != a.UID {
		f.Close()
		return nil, fmt.Errorf("%s/.forward is not a file of its user: %w", a.Home, ErrPermanent)
	}
	return f, nil
}

// acquire returns the process of a user. If there are as many as there may be
// it waits until one of another is not needed.
func (u *users) acquire(ctx context.Context, id identity) (*worker, error) {
	for {
		w, freed, err := u.tryAcquire(id)
		if w != nil || err != nil {
			return w, err
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (u *users) tryAcquire(id identity) (w *worker, freed <-chan struct{}, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if w := u.workers[id]; w != nil {
		w.busy++
		return w, nil, nil
	}
	if len(u.workers) >= maxUsers && !u.endOne() {
		return nil, u.freed, nil
	}
	conn, err := u.start(id.uid, id.gid)
	if err != nil {
		return nil, nil, fmt.Errorf("start the process of user id %d: %w", id.uid, err)
	}
	ctx, end := context.WithCancel(context.Background())
	peer := imsg.NewPeer(conn, nil)
	w = &worker{id: id, client: NewClient(peer), end: end, busy: 1}
	u.workers[id] = w
	u.running.Go(func() {
		peer.Run(ctx)
		u.forget(w)
		conn.Close()
	})
	return w, nil, nil
}

// endOne ends the process that has been idle for the longest time.
func (u *users) endOne() bool {
	var oldest *worker
	for _, w := range u.workers {
		if w.busy == 0 && (oldest == nil || w.since.Before(oldest.since)) {
			oldest = w
		}
	}
	if oldest == nil {
		return false
	}
	u.remove(oldest)
	return true
}

// remove ends w, and has the next request of its user start another.
func (u *users) remove(w *worker) {
	w.end()
	if u.workers[w.id] == w {
		delete(u.workers, w.id)
		close(u.freed)
		u.freed = make(chan struct{})
	}
}

// forget takes a process out that has ended.
func (u *users) forget(w *worker) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.remove(w)
}

func (u *users) release(w *worker) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.busy--; w.busy > 0 {
		return
	}
	w.since = time.Now()
	close(u.freed)
	u.freed = make(chan struct{})
	time.AfterFunc(idleLimit, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if w.busy == 0 && time.Since(w.since) >= idleLimit {
			u.remove(w)
		}
	})
}

// close ends all processes and waits for them.
func (u *users) close() {
	u.mu.Lock()
	for _, w := range u.workers {
		w.end()
	}
	u.mu.Unlock()
	u.running.Wait()
	u.courier.close()
	u.lmtp.close()
}

// systemMailboxes is the one directory in which a user has a file that the
// user could not make.
const systemMailboxes = "/var/mail"

// makeBox makes the mailbox of a user in the directory that belongs to the
// system, empty and the user's own, if it is not there.
func (u *users) makeBox(d Delivery) error {
	dir, name := filepath.Split(d.Target)
	if filepath.Clean(dir) != u.boxes || name != d.As.Name {
		return nil // the user's own affair
	}
	root, err := unix.Open(u.boxes, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: u.boxes, Err: err}
	}
	defer unix.Close(root)
	fd, err := unix.Openat(root, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EEXIST) {
		return nil // whose it is the user's process finds out
	}
	if err != nil {
		return &os.PathError{Op: "create", Path: d.Target, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, int(d.As.UID), int(d.As.GID)); err != nil {
		unix.Unlinkat(root, name, 0)
		return &os.PathError{Op: "chown", Path: d.Target, Err: err}
	}
	return u.syncs.sync(u.boxes)
}
