package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"smtpd/runtime/envelope"
)

// A spool keeps the content of large messages, a file each. A file that no
// record of the store names is the rest of a commit that did not end, and is
// removed at the next start.
type spool struct {
	fs  vfs.FS
	dir string
	rec *recorder
}

// diskCategory marks what the spool writes in the statistics of its file
// system.
const diskCategory = vfs.DiskWriteCategory("spool")

// blockSize is how much of a large content is compressed and sealed at once,
// and so what it takes of memory.
const blockSize = 64 << 10

func (s *spool) path(id envelope.MessageID) string { return s.fs.PathJoin(s.dir, id.String()) }

// store copies content into the file of id and returns when the file and its
// name are on disk.
func (s *spool) store(id envelope.MessageID, content *os.File, size int64) (err error) {
	name := s.path(id)
	f, err := s.fs.Create(name, diskCategory)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.fs.Remove(name))
		}
	}()
	err = s.copyIn(id, f, io.NewSectionReader(content, 0, size))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return syncDir(s.fs, s.dir)
}

// syncDir returns when the names in a directory are on disk.
func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// copyIn writes r to w block by block: as it is, or each block as a record
// with its length before it.
func (s *spool) copyIn(id envelope.MessageID, w io.Writer, r io.Reader) error {
	block := make([]byte, blockSize)
	var out []byte
	for n := 0; ; n++ {
		k, err := io.ReadFull(r, block)
		if k == 0 || err != nil && err != io.ErrUnexpectedEOF {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		out = append(out[:0], block[:k]...)
		if !s.rec.plain() {
			out = s.rec.append(out[:4], blockName(id, n), block[:k])
			binary.LittleEndian.PutUint32(out, uint32(len(out)-4))
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
}

// blockName binds a block to its place: sealed blocks cannot change theirs.
func blockName(id envelope.MessageID, n int) []byte {
	return binary.BigEndian.AppendUint32(contentKey(id), uint32(n))
}

// open returns the content of id, which is size bytes.
func (s *spool) open(id envelope.MessageID, size int64, blocks bool) (*os.File, error) {
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
		return duplicateFd(fd, s.path(id))
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
