package parent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What sendmail and the daemon know of the directory in which sendmail keeps
// messages while no daemon runs.
const (
	OfflineDir     = "offline"  // its name in the spool
	OfflineMode    = 0o1733     // anybody may put a file there, nobody may list it or take another's
	OfflinePartial = ".partial" // how the name of a file ends that is not complete

	OfflineLine = 64 << 10 // bytes of the first line, the arguments of sendmail
	OfflineSize = 64 << 20 // bytes of a message
)

// Limits of what is sent of the directory.
const (
	offlineDelay = time.Second // after the start
	offlineAgain = time.Minute // between two looks
	offlineLate  = time.Hour   // the longest time after which what has failed is tried again

	offlineAtOnce  = 5
	offlinePerUser = 100       // files of one user in one look
	offlineBytes   = 128 << 20 // of them
	offlineTime    = 5 * time.Minute
)

// An Offline is the messages that sendmail stored. Parent, which may be root,
// reads none of them: it starts a process as the owner of each.
type Offline struct {
	Dir string // in the spool; "": nothing is ever stored
	// Send sends the file called name in Dir as its owner, and removes it. An
	// error says why it could not; ErrPermanent, that it never will.
	Send func(ctx context.Context, uid uint32, name string) error
}

// An offlineFile is a file in the directory that looks like a message.
type offlineFile struct {
	name string
	uid  uint32
	size int64
}

// An offline is an Offline at work.
type offline struct {
	Offline
	log   *slog.Logger
	again map[string]attempt // of files that could not be sent and are there
	full  map[uint32]bool    // users of whose files some waited, at the last look
}

// An attempt is one that failed.
type attempt struct {
	next  time.Time // when it may be made again; zero: never
	pause time.Duration
}

// run sends what is stored, from a second after the start until ctx is done.
func (o *offline) run(ctx context.Context) {
	if o.Dir == "" {
		return
	}
	for pause := offlineDelay; ; pause = offlineAgain {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		files, err := o.look()
		if err != nil {
			o.log.Warn("offline: stored messages cannot be looked for", "error", err)
			continue
		}
		o.send(ctx, files)
	}
}

// send sends files, several at once, and remembers those that stay.
func (o *offline) send(ctx context.Context, files []offlineFile) {
	type end struct {
		file offlineFile
		err  error
	}
	work, ends := make(chan offlineFile), make(chan end)
	var senders sync.WaitGroup
	for range offlineAtOnce {
		senders.Go(func() {
			for f := range work {
				limited, cancel := context.WithTimeout(ctx, offlineTime)
				err := o.Send(limited, f.uid, f.name)
				cancel()
				ends <- end{f, err}
			}
		})
	}
	go func() {
		defer close(work)
		for _, f := range files {
			select {
			case work <- f:
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		senders.Wait()
		close(ends)
	}()
	for e := range ends {
		o.note(e.file, e.err)
	}
}

// note logs how the sending of a file has ended, and remembers one that stays.
func (o *offline) note(f offlineFile, err error) {
	attrs := []any{"file", f.name, "uid", f.uid}
	if err == nil {
		delete(o.again, f.name)
		o.log.Info("offline: stored message is sent", attrs...)
		return
	}
	a := o.again[f.name]
	a.pause = min(max(2*a.pause, offlineAgain), offlineLate)
	a.next = time.Now().Add(a.pause)
	if errors.Is(err, ErrPermanent) {
		a.next = time.Time{}
	}
	o.again[f.name] = a
	o.log.Warn("offline: stored message is not sent, and stays", append(attrs, "error", err)...)
}

// look returns the files that are to be sent now, those of all users in turn.
func (o *offline) look() ([]offlineFile, error) {
	dir, err := os.OpenFile(o.Dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	users := make(map[uint32]*offlineUser)
	there := make(map[string]bool) // of those that failed
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			f, ok := consider(dir, name)
			if !ok {
				continue
			}
			u := users[f.uid]
			if u == nil {
				u = new(offlineUser)
				users[f.uid] = u
			}
			a, failed := o.again[name]
			if failed {
				there[name] = true
			}
			if failed && (a.next.IsZero() || time.Now().Before(a.next)) {
				u.kept++
			} else {
				u.add(f)
			}
		}
		if errors.Is(err, io.EOF) {
			maps.DeleteFunc(o.again, func(name string, _ attempt) bool { return !there[name] })
			return o.inTurn(users), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// consider returns what is called name in dir, if it can be a message. Nothing is
// opened; whoever does that, as the owner, looks at it once more.
func consider(dir *os.File, name string) (offlineFile, bool) {
	if !offlineName(name) {
		return offlineFile{}, false
	}
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o7777 != 0o600 || st.Nlink != 1 || st.Size > OfflineSize+OfflineLine {
		return offlineFile{}, false
	}
	return offlineFile{name, st.Uid, st.Size}, true
}

// offlineName reports whether sendmail gives such a name: the time and letters
// and digits. It becomes an argument of a program.
func offlineName(name string) bool {
	at, random, ok := strings.Cut(name, ".")
	if _, err := strconv.ParseUint(at, 10, 62); err != nil || !ok || len(name) > 64 {
		return false
	}
	return random != "" && !strings.ContainsFunc(random, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// An offlineUser is what one user has in the directory.
type offlineUser struct {
	files []offlineFile // to be sent, the oldest first
	kept  int           // others, that failed and are not tried now
	more  bool          // than one user may have there
}

// add keeps f if it is among the oldest.
func (u *offlineUser) add(f offlineFile) {
	at, _ := slices.BinarySearchFunc(u.files, f, func(a, b offlineFile) int { return cmp.Compare(a.name, b.name) })
	u.files = slices.Insert(u.files, at, f)
	u.cut(offlinePerUser)
}

// trim leaves as many files as one user may have sent at a time. Those that
// failed count, so that nobody has us try and remember any number.
func (u *offlineUser) trim() {
	u.cut(max(0, offlinePerUser-u.kept))
	var sum int64
	for i, f := range u.files {
		if sum += f.size; sum > offlineBytes {
			u.cut(i)
			return
		}
	}
}

func (u *offlineUser) cut(n int) {
	if len(u.files) > n {
		u.files, u.more = u.files[:n], true
	}
}

// inTurn returns the files of users, one of each, then the next of each.
func (o *offline) inTurn(users map[uint32]*offlineUser) []offlineFile {
	full := make(map[uint32]bool)
	var l []offlineFile
	for _, uid := range slices.Sorted(maps.Keys(users)) {
		u := users[uid]
		u.trim()
		full[uid] = u.more
		if u.more && !o.full[uid] {
			o.log.Warn(fmt.Sprintf("offline: a user has more than %d stored messages or %d bytes, which wait for each other",
				offlinePerUser, offlineBytes), "uid", uid)
		}
	}
	o.full = full
	for i := range offlinePerUser {
		for _, uid := range slices.Sorted(maps.Keys(users)) {
			if files := users[uid].files; i < len(files) {
				l = append(l, files[i])
			}
		}
	}
	return l
}
