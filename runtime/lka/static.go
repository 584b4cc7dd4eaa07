package lka

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tablefile"
	"smtpd/compile/tablefile/hashdb"
)

// A Version names one content of a table: equal contents have equal
// versions, in whatever process and however often either was started anew.
type Version uint64

// String returns the version as logs show it.
func (v Version) String() string { return fmt.Sprintf("%016x", uint64(v)) }

// VersionOf returns the version of a content.
func VersionOf(entries []compile.Entry) Version {
	h := sha256.New()
	var b []byte
	for i := range entries {
		e := &entries[i]
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.Key)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.Value)))
		b = append(append(b, e.Key...), e.Value...)
		if len(b) > 1<<14 {
			h.Write(b)
			b = b[:0]
		}
	}
	h.Write(b)
	return Version(binary.BigEndian.Uint64(h.Sum(nil)))
}

// A static table is in memory, indexed. One that is a file follows it.
type static struct {
	path    string
	kind    compile.Kind
	delim   byte
	parse   func(path string, data []byte) (tablefile.Kind, []compile.Entry, error)
	serves  engine.Service
	project func(svc engine.Service, key, value string) (string, bool, error) // what a service has of a value; nil: all
	content atomic.Pointer[content]

	mu      sync.Mutex  // of those who read the file
	read    fs.FileInfo // the file when it was read last, well or not
	waiting fs.FileInfo // the file when the last look found it changed
	problem string      // why it cannot be read, as it was logged
}

// A content is what a table holds at one time.
type content struct {
	index   *engine.Static
	entries []compile.Entry
	version Version
	missing error // nothing is known of it, for that reason
}

func newContent(entries []compile.Entry, delim byte) *content {
	return &content{index: engine.NewStatic(&compile.Table{Entries: entries}, delim), entries: entries, version: VersionOf(entries)}
}

func newStatic(t *compile.Table, delim byte) *static {
	s := &static{path: t.Path, kind: t.Kind, delim: delim, parse: tablefile.Parse, serves: ^engine.Auth}
	s.content.Store(newContent(t.Entries, delim))
	return s
}

// errNotRead is the error of a database before it could be read: what it holds
// is not known, which is not the same as nothing.
var errNotRead = errors.New("the database could not be read yet")

// newDatabase returns a table whose file is a database. It is in memory like
// others: databases of aliases are small, and are read whole in no time.
func newDatabase(t *compile.Table, delim byte) *static {
	s := newStatic(t, delim)
	s.kind, s.parse = compile.Dynamic, func(path string, data []byte) (tablefile.Kind, []compile.Entry, error) {
		entries, err := hashdb.Parse(data)
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return tablefile.Mapping, entries, err
	}
	s.content.Load().missing = errNotRead
	return s
}

// now returns what answers for a service.
func (s *static) now(svc engine.Service) (*content, error) {
	c := s.content.Load()
	switch {
	case s.serves&svc == 0:
		return nil, errService
	case c.missing != nil:
		return nil, c.missing
	}
	return c, nil
}

func (s *static) check(_ context.Context, svc engine.Service, key string) (bool, error) {
	c, err := s.now(svc)
	if err != nil {
		return false, err
	}
	return c.index.Check(svc, key)
}

func (s *static) lookup(_ context.Context, svc engine.Service, key string) (string, bool, error) {
	c, err := s.now(svc)
	if err != nil {
		return "", false, err
	}
	value, ok, err := c.index.Lookup(svc, key)
	if ok && s.project != nil {
		return s.project(svc, key, value)
	}
	return value, ok, err
}

func (s *static) fetch(_ context.Context, svc engine.Service) (string, bool, error) {
	c, err := s.now(svc)
	if err != nil {
		return "", false, err
	}
	return c.index.Fetch(svc)
}

// maxTableFile bounds what an update reads into memory.
const maxTableFile = 1 << 30

var errBeingWritten = errors.New("it changed while it was read")

// update reads the file again. Unless all of it can be read, and it is a
// table of the kind that the configuration was checked with, what was known
// before stays.
func (s *static) update(context.Context) error {
	if s.path == "" {
		return errors.New("the table is part of the configuration")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload()
}

// look reads the file if it is not what was read last and has not changed
// since the last look either: half of a file that is being written would
// pass for a whole one. An error is returned once and not at every look.
func (s *static) look() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.path)
	switch {
	case err != nil || sameFile(info, s.read):
	case s.read != nil && !sameFile(info, s.waiting):
		s.waiting = info
		return nil
	default:
		err = s.reload()
	}
	old := s.problem
	s.problem = ""
	if err == nil {
		return nil
	}
	if s.problem = err.Error(); s.problem == old {
		return nil
	}
	return err
}

// sameFile reports whether nobody has written a file or put another one in
// its place, as far as the system tells.
func sameFile(a, b fs.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// reload reads the file, whatever it is like.
func (s *static) reload() error {
	data, info, err := readRegular(s.path, maxTableFile)
	if err != nil {
		return err
	}
	if after, err := os.Stat(s.path); err != nil || !sameFile(info, after) {
		return fmt.Errorf("%s: %w", s.path, errBeingWritten)
	}
	s.read, s.waiting = info, nil
	kind, entries, err := s.parse(s.path, data)
	switch {
	case err != nil:
		return err
	case kind == tablefile.List && s.kind == compile.Mapping, kind == tablefile.Mapping && s.kind == compile.List && len(entries) > 0:
		return fmt.Errorf("%s: was a list and is now a mapping, or the other way round", s.path)
	}
	old := s.content.Load()
	if next := newContent(entries, s.delim); next.version != old.version || old.missing != nil {
		s.content.Store(next)
	}
	return nil
}
