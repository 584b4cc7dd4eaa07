package parent

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mbox appends msg to the file d names. The file is locked against other
// deliveries and mail readers, and cut back to what it was if not all of the
// message could be written.
func (a *agent) mbox(ctx context.Context, d Delivery, msg *message) (err error) {
	if d.Target == os.DevNull {
		return nil // how an alias throws mail away
	}
	if err := a.checkHome(d); err != nil {
		return err
	}
	path := a.local(a.target(d))
	f, made, err := a.openBox(path, d.As)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if err := lockFile(ctx, f); err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := writeMbox(f, d, msg); err != nil {
		f.Truncate(end)
		return err
	}
	if made {
		return a.syncs.sync(filepath.Dir(path))
	}
	return nil
}

// openBox opens or makes the mbox path of as. A mailbox that is a link, or has
// more than one name, or is another user's may be a trap that somebody set for
// the owner of the mail or for this process.
func (a *agent) openBox(path string, as Account) (f *os.File, made bool, err error) {
	owner := os.Geteuid()
	if a.many {
		owner = int(as.UID)
	}
	flags := os.O_RDWR | os.O_APPEND | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err = os.OpenFile(path, flags, 0)
	if os.IsNotExist(err) {
		made = true
		f, err = os.OpenFile(path, flags|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, false, err
	}
	wrong := ""
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		wrong = "is not a regular file"
	case int(st.Uid) != owner:
		wrong = "belongs to another user"
	case st.Nlink != 1:
		wrong = "has more than one name"
	default:
		return f, made, nil
	}
	f.Close()
	return nil, false, &deliveryError{code: exCantCreat, text: path + " " + wrong}
}

// writeMbox writes msg in mbox form at the end of f and syncs it: a From_
// line, the lines of the message, those that begin like a From_ line quoted,
// and an empty line.
func writeMbox(f *os.File, d Delivery, msg *message) error {
	from := d.Sender.String()
	if d.Sender.IsNull() {
		from = "MAILER-DAEMON"
	}
	w := bufio.NewWriterSize(f, 64<<10)
	// A blank would end the address.
	from = strings.ReplaceAll(printable(from), " ", ":")
	fmt.Fprintf(w, "From %s %s\n", from, time.Now().Format(time.ANSIC))
	if err := quoteFrom(w, msg.reader()); err != nil {
		return err
	}
	w.WriteByte('\n')
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// quoteFrom copies r with > before every line that begins with "From ", and
// ends the last line.
func quoteFrom(w *bufio.Writer, r io.Reader) error {
	br := bufio.NewReaderSize(r, 64<<10)
	start := true // of a line
	for {
		part, err := br.ReadSlice('\n')
		if start && bytes.HasPrefix(part, []byte("From ")) {
			w.WriteByte('>')
		}
		if len(part) > 0 {
			start = part[len(part)-1] == '\n'
		}
		if _, werr := w.Write(part); werr != nil {
			return werr
		}
		switch {
		case err == io.EOF && !start:
			return w.WriteByte('\n')
		case err == io.EOF:
			return nil
		case err != nil && err != bufio.ErrBufferFull:
			return err
		}
	}
}

// lockFile takes the lock of f, which ends with f, or gives up with ctx. Another
// delivery keeps it for the time of a sync, a mail reader perhaps for long.
func lockFile(ctx context.Context, f *os.File) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 32*time.Millisecond) {
		locked, err := tryLock(f)
		if locked || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
