package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"smtpd/runtime/envelope"
)

// A spool keeps the content of large messages, a file each. A file that no
// record of the store names is of a message that was never committed, and is
// removed at the next start.
type spool struct {
	fs  vfs.FS
	dir string
	rec *recorder

	mu   sync.Mutex
	open map[envelope.MessageID]*spoolFile // of messages that are not committed
}

// A spoolFile takes the content of a message that is not committed. Nobody but
// the store has its descriptor, so that nobody changes it afterwards, and with
// queue encryption only sealed blocks are written.
type spoolFile struct {
	s    *spool
	id   envelope.MessageID
	file vfs.File

	mu     sync.Mutex
	block  []byte // not full yet
	blocks int    // that were written
	size   int64  // of the content, without block
	record []byte // kept for its memory
}

// diskCategory marks what the spool writes in the statistics of its file
// system.
const diskCategory = vfs.DiskWriteCategory("spool")

// blockSize is how much of a large content is compressed and sealed at once,
// and so what it takes of memory.
const blockSize = 64 << 10

func (s *spool) path(id envelope.MessageID) string { return s.fs.PathJoin(s.dir, id.String()) }

// add adds to the content of id, in a file which the first piece creates.
func (s *spool) add(id envelope.MessageID, piece []byte) error {
	f, err := s.get(id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.add(piece)
}

func (s *spool) get(id envelope.MessageID) (*spoolFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.open[id]; f != nil {
		return f, nil
	}
	file, err := s.fs.Create(s.path(id), diskCategory)
	if err != nil {
		return nil, err
	}
	f := &spoolFile{s: s, id: id, file: file, block: make([]byte, 0, blockSize)}
	s.open[id] = f
	return f, nil
}

// take hands over the file of id; nil if there is none.
func (s *spool) take(id envelope.MessageID) *spoolFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.open[id]
	delete(s.open, id)
	return f
}

func (s *spool) discard(id envelope.MessageID) {
	if f := s.take(id); f != nil {
		f.remove() // if that fails, the next start does it
	}
}

// finish adds the last piece, and returns the size of the content when the
// file and its name are on disk. After an error there is no file.
func (f *spoolFile) finish(last []byte) (size int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, f.remove())
		}
	}()
	if err := f.add(last); err != nil {
		return 0, err
	}
	if err := f.flush(); err != nil {
		return 0, err
	}
	if err := f.file.Sync(); err != nil {
		return 0, err
	}
	err = f.file.Close()
	f.file = nil
	if err != nil {
		return 0, err
	}
	return f.size, syncDir(f.s.fs, f.s.dir)
}

func (f *spoolFile) remove() error {
	var err error
	if f.file != nil {
		err = f.file.Close()
	}
	return errors.Join(err, f.s.fs.Remove(f.s.path(f.id)))
}

// syncDir returns when the names in a directory are on disk.
func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// add adds to the content, block by block.
func (f *spoolFile) add(piece []byte) error {
	for len(piece) > 0 {
		n := min(len(piece), blockSize-len(f.block))
		f.block = append(f.block, piece[:n]...)
		piece = piece[n:]
		if len(f.block) == blockSize {
			if err := f.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the block: as it is, or as a record with its length before it.
func (f *spoolFile) flush() error {
	if len(f.block) == 0 {
		return nil
	}
	out := f.block
	if rec := f.s.rec; !rec.plain() {
		f.record = rec.append(append(f.record[:0], 0, 0, 0, 0), blockName(f.id, f.blocks), f.block)
		binary.LittleEndian.PutUint32(f.record, uint32(len(f.record)-4))
		out = f.record
	}
	if _, err := f.file.Write(out); err != nil {
		return err
	}
	f.size += int64(len(f.block))
	f.blocks++
	f.block = f.block[:0]
	return nil
}

// blockName binds a block to its place: sealed blocks cannot change theirs.
func blockName(id envelope.MessageID, n int) []byte {
	return binary.BigEndian.AppendUint32(contentKey(id), uint32(n))
}

// read returns the content of id, which is size bytes.
func (s *spool) read(id envelope.MessageID, size int64, blocks bool) (*os.File, error) {
	f, err := s.fs.Open(s.path(id))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	defer f.Close()
	if fd := f.Fd(); !blocks && fd != vfs.InvalidFd {
		st, err := f.Stat()
		if err == nil && st.Size() != size {
			err = fmt.Errorf("%d of %d bytes: %w", st.Size(), size, ErrDamaged)
		}
		if err != nil {
			return nil, err
		}
		return duplicate(fd, s.path(id))
	}
	return s.copyOut(id, f, size, blocks)
}

// copyOut makes a file of what cannot be handed out as it is.
func (s *spool) copyOut(id envelope.MessageID, r io.Reader, size int64, blocks bool) (*os.File, error) {
	out, err := newContent()
	if err != nil {
		return nil, err
	}
	var n int64
	if blocks {
		n, err = s.unpack(id, out, r)
	} else {
		n, err = io.Copy(out, r)
	}
	if err == nil && n != size {
		err = fmt.Errorf("%d of %d bytes: %w", n, size, ErrDamaged)
	}
	if err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

func (s *spool) unpack(id envelope.MessageID, w io.Writer, r io.Reader) (total int64, err error) {
	var head [4]byte
	var raw []byte
	for n := 0; ; n++ {
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, fmt.Errorf("%w: %w", err, ErrDamaged)
		}
		size := binary.LittleEndian.Uint32(head[:])
		if size > 2*blockSize {
			return total, fmt.Errorf("block of %d bytes: %w", size, ErrDamaged)
		}
		raw = append(raw[:0], make([]byte, size)...)
		if _, err := io.ReadFull(r, raw); err != nil {
			return total, fmt.Errorf("%w: %w", err, ErrDamaged)
		}
		block, err := s.rec.parse(blockName(id, n), raw)
		if err != nil {
			return total, err
		}
		k, err := w.Write(block)
		total += int64(k)
		if err != nil {
			return total, err
		}
	}
}

// sweep removes the files of messages that known does not know.
func (s *spool) sweep(known func(envelope.MessageID) (bool, error)) error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, err := envelope.ParseMessageID(name)
		if err != nil || strings.ToLower(name) != name {
			continue // not ours
		}
		switch ok, err := known(id); {
		case err != nil:
			return err
		case !ok:
			if err := s.fs.Remove(s.fs.PathJoin(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
