// Package opensmtpd reads the spool of OpenSMTPD, so that its mail can be
// taken over: messages and envelopes as releases from 5.4 (envelopes of
// version 2) to 7.8 (version 3) leave them, compressed, encrypted, or both.
//
// smtpctl queue import calls it. It changes nothing but what Done moves.
//
// What must never happen here: a message of which a part was not understood
// taken for whole; a link in the spool followed out of it.
package opensmtpd

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"

	"smtpd/runtime/envelope"
)

// A Spool is the directory in which OpenSMTPD keeps its mail.
type Spool struct {
	root *os.Root
	key  func() (string, error)
	aead cipher.AEAD // once a key was needed
}

// Open opens the spool in dir. key is called once, when something encrypted is
// found.
func Open(dir string, key func() (string, error)) (*Spool, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	if st, err := root.Stat("queue"); err != nil || !st.IsDir() {
		root.Close()
		return nil, fmt.Errorf("%s is no spool of OpenSMTPD: it has no directory queue", dir)
	}
	return &Spool{root: root, key: key}, nil
}

// Close ends the use of a spool.
func (s *Spool) Close() error { return s.root.Close() }

// A Message is one of a Spool.
type Message struct {
	Name      string // of its directory: its id, if it has one
	ID        envelope.MessageID
	Envelopes []Envelope

	spool *Spool
	dir   string
}

// Messages visits the messages that are queued, in the order of their ids. One
// that cannot be read comes with an error, and the visit goes on.
func (s *Spool) Messages() iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		buckets, err := s.list("queue")
		if err != nil {
			yield(&Message{Name: "queue"}, err)
			return
		}
		for _, b := range buckets {
			names, err := s.list(path.Join("queue", b))
			if err != nil && !yield(&Message{Name: b}, err) {
				return
			}
			for _, name := range names {
				m := &Message{Name: name, spool: s, dir: path.Join("queue", b, name)}
				if !yield(m, m.read()) {
					return
				}
			}
		}
	}
}

func (s *Spool) list(dir string) ([]string, error) {
	entries, err := fs.ReadDir(s.root.FS(), dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// contentName is the name of the file beside the envelopes.
const contentName = "message"

func (m *Message) read() (err error) {
	if m.ID, err = envelope.ParseMessageID(m.Name); err != nil {
		return errors.New("not the name of a message")
	}
	names, err := m.spool.list(m.dir)
	if err != nil {
		return err
	}
	content := false
	for _, name := range names {
		if name == contentName {
			content = true
			continue
		}
		ev, err := m.readEnvelope(name)
		if err != nil {
			return fmt.Errorf("envelope %s: %w", name, err)
		}
		m.Envelopes = append(m.Envelopes, *ev)
	}
	switch {
	case !content:
		return errors.New("it has no content")
	case len(m.Envelopes) == 0:
		return errors.New("it has no envelope")
	}
	return nil
}

func (m *Message) readEnvelope(name string) (*Envelope, error) {
	id, err := envelope.ParseID(name)
	if err != nil || id.Message() != m.ID {
		return nil, errors.New("not the name of an envelope of this message")
	}
	b, err := m.spool.readAll(path.Join(m.dir, name), maxEnvelope)
	if err != nil {
		return nil, err
	}
	ev, err := ParseEnvelope(b)
	if err != nil {
		return nil, err
	}
	ev.ID = id
	return ev, nil
}

// Limits of what is read into memory. OpenSMTPD's envelopes are smaller than
// a few kilobytes, and only what is encrypted must be in memory as a whole.
const (
	maxEnvelope = 64 << 10
	maxSealed   = 1 << 30
)

// open opens a file of the spool, and nothing that is none.
func (s *Spool) open(name string) (*os.File, error) {
	st, err := s.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return s.root.Open(name)
}

// plain returns what a file held before it was compressed and encrypted. Each
// file says by its first byte what was done with it: 0x01 was encrypted and
// 0x1f 0x8b compressed, and neither a message nor an envelope begins so.
func (s *Spool) plain(f *os.File) (io.Reader, error) {
	var head [2]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	r := io.MultiReader(bytes.NewReader(head[:n]), f)
	if n > 0 && head[0] == sealMark {
		b, err := s.unseal(r)
		if err != nil {
			return nil, err
		}
		n = copy(head[:], b)
		r = bytes.NewReader(b)
	}
	if n == 2 && head == [2]byte{0x1f, 0x8b} {
		return gzip.NewReader(r)
	}
	return r, nil
}

const sealMark = 0x01

func (s *Spool) unseal(r io.Reader) ([]byte, error) {
	if s.aead == nil {
		key, err := s.key()
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher([]byte(key))
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("key of %d bytes: a queue is encrypted with 32", len(key))
		}
		if s.aead, err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
	}
	b, err := readUpTo(r, maxSealed)
	if err != nil {
		return nil, err
	}
	n := s.aead.NonceSize()
	if len(b) < 1+n {
		return nil, errors.New("an encrypted file is cut off")
	}
	plain, err := s.aead.Open(b[1+n:1+n], b[1:1+n], b[1+n:], nil)
	if err != nil {
		return nil, errors.New("encrypted with another key, or damaged")
	}
	return plain, nil
}

func readUpTo(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}

func (s *Spool) readAll(name string, limit int64) ([]byte, error) {
	f, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := s.plain(f)
	if err != nil {
		return nil, err
	}
	return readUpTo(r, limit)
}

// CopyContent writes the message to w.
func (m *Message) CopyContent(w io.Writer) error {
	f, err := m.spool.open(path.Join(m.dir, contentName))
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := m.spool.plain(f)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return err
}

// doneDir is where the messages go that were taken over.
const doneDir = "imported"

// Done moves the message out of the queue, so that neither OpenSMTPD nor
// another import takes it up again.
func (m *Message) Done() error {
	if err := m.spool.root.Mkdir(doneDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return m.spool.root.Rename(m.dir, path.Join(doneDir, path.Base(m.dir)))
}

// Offline returns how many messages lie where sendmail left them while no
// daemon ran.
func (s *Spool) Offline() (n int, err error) {
	names, err := s.list("offline")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return len(names), err
}
