package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"smtpd/runtime/envelope"
)

// StoreConfig says where a store is and how it keeps mail.
type StoreConfig struct {
	Dir      string
	Grouping Grouping
	Log      *slog.Logger

	Compress bool
	Encrypt  bool
	Key      string // 32 bytes, or ""

	// Fatal is called when a write to the log has failed, and must not
	// return: the caller that waits would take it for success. nil ends the
	// process.
	Fatal func(err error)

	fs   vfs.FS                // nil: the system's
	tune func(*pebble.Options) // for tests
}

// pebbleStore is the Store on Pebble: small content, envelopes and both
// indexes are keys of it (keys.go); large content is in the spool.
type pebbleStore struct {
	db      *pebble.DB
	spool   spool
	ballast string // file
	rec     *recorder
	group   Grouping
	fatal   func(err error)

	// change guards what is read before it is written: whether an envelope
	// is the last of its message, and where its index keys are.
	change sync.Mutex

	flushing atomic.Bool // a flush is about to come
	flushes  sync.WaitGroup
	stop     chan struct{} // closed by Close

	closing sync.Once
	closed  error
}

// OpenStore opens the store in c.Dir, which it creates if need be.
func OpenStore(c StoreConfig) (Store, error) {
	s, err := openPebble(c)
	if err != nil {
		return nil, fmt.Errorf("open queue in %s: %w", c.Dir, err)
	}
	return s, nil
}

func openPebble(c StoreConfig) (*pebbleStore, error) {
	rec, err := newRecorder(c.Compress, c.Encrypt, c.Key)
	if err != nil {
		return nil, err
	}
	if c.fs == nil {
		c.fs = vfs.Default
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Fatal == nil {
		c.Fatal = func(error) { os.Exit(1) }
	}
	fatal := func(err error) {
		c.Log.Error("queue: the log cannot be written, ending", "error", err)
		c.Fatal(err)
		select {} // never go on, whatever Fatal does
	}
	s := &pebbleStore{
		spool:   spool{fs: c.fs, dir: c.fs.PathJoin(c.Dir, "content"), rec: rec, open: make(map[envelope.MessageID]*spoolFile)},
		ballast: c.fs.PathJoin(c.Dir, "ballast"),
		rec:     rec, group: c.Grouping, fatal: fatal, stop: make(chan struct{}),
	}
	for _, dir := range []string{c.Dir, s.spool.dir} {
		if err := makeDir(c.fs, dir); err != nil {
			return nil, err
		}
	}
	if n, err := s.free(); err == nil && n < minFree {
		// Opening the log takes room, too.
		if err := s.spend(); err != nil {
			return nil, err
		}
	}
	failed := new(failure)
	o := pebbleOptions(orderedFS{c.fs, failed}, pebbleLogger{c.Log, fatal})
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			failed.happened()
			c.Log.Error("queue: store cannot be tidied up", "error", err)
		},
		// Without this the process would end, and end again after each start:
		// who asked for the record gets an error anyway.
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			c.Log.Error("queue: a file of the store is damaged, run smtpctl queue check", "file", info.Path, "error", info.Details)
		},
	}
	if c.tune != nil {
		c.tune(o)
	}
	s.db, err = pebble.Open(c.fs.PathJoin(c.Dir, "store"), o)
	if err != nil {
		return nil, err
	}
	if err := s.spool.sweep(s.names); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// makeDir makes a directory that a crash leaves in place.
func makeDir(fs vfs.FS, dir string) error {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(dir))
}

// pebbleOptions fit a queue: most of what is written is deleted soon after
// it, while it is still in a memtable, and should never reach a table.
func pebbleOptions(fs vfs.FS, log pebble.Logger) *pebble.Options {
	o := &pebble.Options{
		FS:                          fs,
		Logger:                      log,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                32 << 20,
		MemTableStopWritesThreshold: 4,
		CacheSize:                   16 << 20,
		MaxOpenFiles:                256,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               128 << 20,
	}
	for i := range o.Levels {
		// Has and the reads of young mail ask for keys that no table has.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].BlockSize = 16 << 10
	}
	// Mail that stays is worth packing, mail in passing is not.
	settings := pebble.DBCompressionBalanced
	settings.Levels[0] = pebble.DBCompressionNone.Levels[0]
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return settings })
	return o
}

// A pebbleLogger passes on what Pebble says of itself.
type pebbleLogger struct {
	log   *slog.Logger
	fatal func(err error)
}

func (l pebbleLogger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("queue: store", "text", fmt.Sprintf(format, args...))
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("queue: store", "text", fmt.Sprintf(format, args...))
}

// Fatalf is where a failed write of the log arrives. Pebble reports success
// to those who wait if it returns.
func (l pebbleLogger) Fatalf(format string, args ...any) { l.fatal(fmt.Errorf(format, args...)) }

func (s *pebbleStore) Close() error {
	s.closing.Do(func() {
		close(s.stop)
		s.flushes.Wait()
		s.closed = s.db.Close()
	})
	return s.closed
}

// get returns a copy of the value of a key, or ErrNotFound.
func (s *pebbleStore) get(key []byte) ([]byte, error) {
	v, done, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	v = append([]byte(nil), v...)
	return v, done.Close()
}

func (s *pebbleStore) Has(id envelope.MessageID) (bool, error) {
	_, done, err := s.db.Get(messageKey(id))
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, done.Close()
}

// names reports whether a file of the spool may be wanted: by a message, or as
// evidence.
func (s *pebbleStore) names(id envelope.MessageID) (bool, error) {
	for _, key := range [...][]byte{messageKey(id), asideKey(messageKey(id))} {
		switch _, err := s.get(key); {
		case err == nil:
			return true, nil
		case !errors.Is(err, ErrNotFound):
			return false, err
		}
	}
	return false, nil
}

// How the content of a message is kept.
const (
	inStore    = iota + 1 // under keyContent
	inSpool               // a file that holds it as it is
	inSpoolRec            // a file of records
)

// A messageRecord is what keyMessage holds.
type messageRecord struct {
	kind byte
	size int64
}

func (m messageRecord) append(b []byte) []byte {
	return binary.AppendUvarint(append(b, m.kind), uint64(m.size))
}

func parseMessageRecord(b []byte) (m messageRecord, err error) {
	if len(b) < 2 || b[0] < inStore || b[0] > inSpoolRec {
		return m, fmt.Errorf("message record: %w", ErrDamaged)
	}
	size, n := binary.Uvarint(b[1:])
	if n != len(b)-1 || int64(size) < 0 {
		return m, fmt.Errorf("message record: %w", ErrDamaged)
	}
	return messageRecord{b[0], int64(size)}, nil
}

func (s *pebbleStore) Append(id envelope.MessageID, piece []byte) error {
	if err := s.spool.add(id, piece); err != nil {
		return fmt.Errorf("content of message %v: %w", id, err)
	}
	return nil
}

func (s *pebbleStore) Discard(id envelope.MessageID) { s.spool.discard(id) }

func (s *pebbleStore) Commit(m *Message) error {
	b := s.db.NewBatchWithSize(512*(1+len(m.Envelopes)) + len(m.Content))
	defer b.Close()
	if err := s.putContent(b, m); err != nil {
		return fmt.Errorf("commit message %v: %w", m.ID, err)
	}
	for i := range m.Envelopes {
		s.putNew(b, &m.Envelopes[i])
	}
	if len(m.Reported) == 0 {
		committed.Inc()
		return s.db.Apply(b, pebble.Sync)
	}
	return s.applyChanges(b, &Changes{Remove: m.Reported})
}

func (s *pebbleStore) putContent(b *pebble.Batch, m *Message) error {
	if len(m.Content) > maxInline {
		return fmt.Errorf("%d bytes with the commit", len(m.Content))
	}
	rec := messageRecord{inStore, int64(len(m.Content))}
	if f := s.spool.take(m.ID); f == nil {
		s.set(b, contentKey(m.ID), m.Content)
	} else {
		rec.kind = inSpool
		if !s.rec.plain() {
			rec.kind = inSpoolRec
		}
		var err error
		if rec.size, err = f.finish(m.Content); err != nil {
			return err
		}
	}
	s.set(b, messageKey(m.ID), rec.append(nil))
	return nil
}

// set puts a record. The errors of a batch's methods are only those of
// misuse, as of one that is closed.
func (s *pebbleStore) set(b *pebble.Batch, key, payload []byte) {
	must(b.Set(key, s.rec.append(make([]byte, 0, len(payload)+recordHeader), key, payload), nil))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// A stored envelope is one with the destination it had when it was written.
type stored struct {
	dest Destination
	ev   envelope.Envelope
}

func (t *stored) append(b []byte) []byte { return t.ev.Append(appendDestination(b, t.dest)) }

func parseStored(b []byte) (t stored, err error) {
	if t.dest, b, err = parseDestination(b); err != nil {
		return t, err
	}
	if t.ev, err = envelope.Parse(b); err != nil {
		return t, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return t, nil
}

func (s *pebbleStore) putNew(b *pebble.Batch, ev *envelope.Envelope) {
	t := stored{s.group(ev), *ev}
	s.set(b, envelopeKey(ev.ID), t.append(nil))
	s.index(b, &t)
}

// index puts the keys by which an envelope is found when it is due. They are
// put once and deleted once, which lets Pebble forget both together: that is
// what SingleDelete in unindex says.
func (s *pebbleStore) index(b *pebble.Batch, t *stored) {
	if at, ok := due(&t.ev); ok {
		m := Mark{at, t.ev.ID}
		must(b.Set(dueKey(m), appendDestination(nil, t.dest), nil))
		must(b.Set(destinationKey(t.dest, m), nil, nil))
	}
}

func (s *pebbleStore) unindex(b *pebble.Batch, t *stored) {
	if at, ok := due(&t.ev); ok {
		s.unindexEntry(b, Entry{Mark{at, t.ev.ID}, t.dest})
	}
}

func (s *pebbleStore) unindexEntry(b *pebble.Batch, e Entry) {
	must(b.SingleDelete(dueKey(e.Mark), nil))
	must(b.SingleDelete(destinationKey(e.Dest, e.Mark), nil))
}

func (s *pebbleStore) Apply(c *Changes) error {
	if c.empty() {
		return nil
	}
	b := s.db.NewBatch()
	defer b.Close()
	return s.applyChanges(b, c)
}

// applyChanges adds c to b, applies it and waits for the disk. Others may
// read and change what it has changed while it waits.
//
// A step that does nothing but remove does not wait. Its flush would come
// between those that sessions wait for, and all that a crash can do is to
// have a mail delivered twice, which it can do before the flush anyway.
func (s *pebbleStore) applyChanges(b *pebble.Batch, c *Changes) error {
	s.change.Lock()
	lazy := b.Empty() && len(c.Put) == 0
	spooled, err := s.addChanges(b, c)
	lazy = lazy && len(spooled) == 0
	switch {
	case err != nil:
	case lazy:
		err = s.db.Apply(b, pebble.NoSync)
	default:
		err = s.db.ApplyNoSyncWait(b, pebble.Sync)
	}
	s.change.Unlock()
	if err != nil {
		return err
	}
	if lazy {
		s.flushSoon()
		return nil
	}
	committed.Inc()
	if err := b.SyncWait(); err != nil {
		s.fatal(fmt.Errorf("sync: %w", err))
	}
	// Only now: a removal that a crash undoes must find the content again.
	for _, id := range spooled {
		if err := s.spool.fs.Remove(s.spool.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// flushDelay bounds how long a removal waits for a commit to flush it.
const flushDelay = 20 * time.Millisecond

// flushSoon flushes the log a little later, once for all that ask by then.
func (s *pebbleStore) flushSoon() {
	if s.flushing.Swap(true) {
		return
	}
	s.flushes.Go(func() {
		select {
		case <-time.After(flushDelay):
		case <-s.stop:
		}
		s.flushing.Store(false)
		// Pebble panics if the log has failed already, for someone else who
		// is about to end the process.
		defer func() {
			if r := recover(); r != nil {
				s.fatal(fmt.Errorf("sync: %v", r))
			}
		}()
		if err := s.db.LogData(nil, pebble.Sync); err != nil {
			s.fatal(fmt.Errorf("sync: %w", err))
		}
	})
}

// addChanges adds c to b and returns the messages that go with it and have a
// file in the spool.
func (s *pebbleStore) addChanges(b *pebble.Batch, c *Changes) (spooled []envelope.MessageID, err error) {
	kept := make(map[envelope.MessageID]bool)
	for i := range c.Put {
		kept[c.Put[i].ID.Message()] = true
		if err := s.put(b, &c.Put[i]); err != nil {
			return nil, err
		}
	}
	removed := make(map[envelope.MessageID]map[envelope.ID]bool)
	for _, id := range c.Remove {
		if err := s.remove(b, id); err != nil {
			return nil, err
		}
		m := id.Message()
		if removed[m] == nil {
			removed[m] = make(map[envelope.ID]bool)
		}
		removed[m][id] = true
	}
	for _, e := range c.Stray {
		s.unindexEntry(b, e)
	}
	for id, gone := range removed {
		if kept[id] {
			continue
		}
		inSpool, err := s.removeMessage(b, id, gone)
		if err != nil {
			return nil, err
		}
		if inSpool {
			spooled = append(spooled, id)
		}
	}
	return spooled, nil
}

// put stores a new state of ev, or ev if it is new.
func (s *pebbleStore) put(b *pebble.Batch, ev *envelope.Envelope) error {
	old, err := s.stored(ev.ID)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrDamaged):
		s.putNew(b, ev)
		return nil
	case err != nil:
		return err
	}
	t := stored{s.group(ev), *ev}
	s.set(b, envelopeKey(ev.ID), t.append(nil))
	was, wasOK := due(&old.ev)
	is, isOK := due(&t.ev)
	if was.Equal(is) && wasOK == isOK && old.dest == t.dest {
		return nil
	}
	s.unindex(b, &old)
	s.index(b, &t)
	return nil
}

func (s *pebbleStore) remove(b *pebble.Batch, id envelope.ID) error {
	old, err := s.stored(id)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrDamaged):
		return nil
	case err != nil:
		return err
	}
	s.unindex(b, &old)
	must(b.Delete(envelopeKey(id), nil))
	return nil
}

// removeMessage removes a message if no envelope is left but those gone, and
// says whether a file of the spool is to go too. An envelope that was set
// aside is left: it is evidence, and nothing without the content.
func (s *pebbleStore) removeMessage(b *pebble.Batch, id envelope.MessageID, gone map[envelope.ID]bool) (spooled bool, err error) {
	first := envelopeKey(envelope.ID(id) << 32)[:5]
	for _, prefix := range [][]byte{first, asideKey(first)} {
		left, err := s.anyLeft(prefix, gone)
		if left || err != nil {
			return false, err
		}
	}
	rec, err := s.message(id)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case errors.Is(err, ErrDamaged):
		return false, nil // set aside, and the content with it
	case err != nil:
		return false, err
	}
	must(b.SingleDelete(messageKey(id), nil))
	if rec.kind == inStore {
		must(b.SingleDelete(contentKey(id), nil))
	}
	return rec.kind != inStore, nil
}

func (s *pebbleStore) anyLeft(prefix []byte, gone map[envelope.ID]bool) (bool, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return false, err
	}
	left := false
	for ok := it.First(); ok && !left; ok = it.Next() {
		k := it.Key()
		left = !gone[envelope.ID(binary.BigEndian.Uint64(k[len(k)-8:]))]
	}
	return left, errors.Join(it.Error(), it.Close())
}

// record returns the payload under a key. A damaged one is set aside.
func (s *pebbleStore) record(key []byte) ([]byte, error) {
	raw, err := s.get(key)
	if err != nil {
		return nil, err
	}
	payload, err := s.rec.parse(key, raw)
	return payload, s.judge(key, raw, err)
}

// judge sets a record aside if err says that it is damaged, and returns err.
func (s *pebbleStore) judge(key, raw []byte, err error) error {
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	must(b.Set(asideKey(key), raw, nil))
	must(b.Delete(key, nil))
	return errors.Join(err, s.db.Apply(b, pebble.Sync))
}

func (s *pebbleStore) setting(name string) ([]byte, error) {
	v, err := s.record(settingKey(name))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return v, err
}

func (s *pebbleStore) keep(name string, value []byte) error {
	b := s.db.NewBatch()
	defer b.Close()
	s.set(b, settingKey(name), value)
	return s.db.Apply(b, pebble.Sync)
}

func (s *pebbleStore) message(id envelope.MessageID) (m messageRecord, err error) {
	key := messageKey(id)
	p, err := s.record(key)
	if err != nil {
		return m, err
	}
	m, err = parseMessageRecord(p)
	return m, s.judge(key, p, err)
}

func (s *pebbleStore) size(id envelope.MessageID) (int64, error) {
	m, err := s.message(id)
	return m.size, err
}

func (s *pebbleStore) stored(id envelope.ID) (t stored, err error) {
	key := envelopeKey(id)
	p, err := s.record(key)
	if err != nil {
		return t, err
	}
	t, err = parseStored(p)
	if err == nil && t.ev.ID != id {
		err = fmt.Errorf("envelope of another id: %w", ErrDamaged)
	}
	return t, s.judge(key, p, err)
}

func (s *pebbleStore) Load(id envelope.ID) (envelope.Envelope, error) {
	t, err := s.stored(id)
	if err != nil {
		return envelope.Envelope{ID: id}, fmt.Errorf("envelope %v: %w", id, err)
	}
	return t.ev, nil
}

func (s *pebbleStore) Open(id envelope.MessageID) (*os.File, error) {
	f, err := s.open(id)
	if err != nil {
		return nil, fmt.Errorf("open message %v: %w", id, err)
	}
	return f, nil
}

func (s *pebbleStore) open(id envelope.MessageID) (*os.File, error) {
	m, err := s.message(id)
	if err != nil {
		return nil, err
	}
	if m.kind != inStore {
		return s.spool.read(id, m.size, m.kind == inSpoolRec)
	}
	content, err := s.record(contentKey(id))
	if err != nil {
		return nil, err
	}
	return contentFile(content)
}

func (s *pebbleStore) Walk(r Range) iter.Seq2[Entry, error] {
	prefix := []byte{keyDue}
	if r.Dest != nil {
		prefix = appendDestination([]byte{keyDestination}, *r.Dest)
	}
	lower := prefix
	if r.After != (Mark{}) {
		lower = append(appendMark(append([]byte(nil), prefix...), r.After), 0)
	}
	return func(yield func(Entry, error) bool) {
		s.visit(lower, after(prefix), func(key, value []byte) bool {
			return yield(parseEntry(key[len(prefix):], value, r.Dest))
		}, func(err error) { yield(Entry{}, err) })
	}
}

func parseEntry(mark, value []byte, dest *Destination) (e Entry, err error) {
	if e.Mark, err = parseMark(mark); err != nil {
		return e, err
	}
	if dest != nil {
		e.Dest = *dest
		return e, nil
	}
	var rest []byte
	if e.Dest, rest, err = parseDestination(value); err == nil && len(rest) > 0 {
		err = fmt.Errorf("index value: %w", ErrDamaged)
	}
	return e, err
}

func (s *pebbleStore) count() func() (int, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyEnvelope}, UpperBound: []byte{keyEnvelope + 1}})
	if err != nil {
		return func() (int, error) { return 0, err }
	}
	return func() (n int, err error) {
		for ok := it.First(); ok; ok = it.Next() {
			n++
		}
		return n, it.Close()
	}
}

func (s *pebbleStore) List(after envelope.ID) iter.Seq2[envelope.Envelope, error] {
	return func(yield func(envelope.Envelope, error) bool) {
		lower := append(envelopeKey(after), 0)
		s.visit(lower, []byte{keyEnvelope + 1}, func(key, raw []byte) bool {
			return yield(s.listed(key, raw))
		}, func(err error) { yield(envelope.Envelope{}, err) })
	}
}

// listed reads an envelope for a list, which changes nothing.
func (s *pebbleStore) listed(key, raw []byte) (envelope.Envelope, error) {
	if len(key) != 9 {
		return envelope.Envelope{}, fmt.Errorf("key %x: %w", key, ErrDamaged)
	}
	id := envelope.ID(binary.BigEndian.Uint64(key[1:]))
	p, err := s.rec.parse(key, raw)
	if err == nil {
		var t stored
		if t, err = parseStored(p); err == nil {
			return t.ev, nil
		}
	}
	return envelope.Envelope{ID: id}, fmt.Errorf("envelope %v: %w", id, err)
}

// visit calls f with the keys of a range until it returns false, and failed
// if the range cannot be read on.
func (s *pebbleStore) visit(lower, upper []byte, f func(key, value []byte) bool, failed func(error)) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		failed(err)
		return
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			failed(err)
			break
		}
		if !f(it.Key(), v) {
			it.Close()
			return
		}
	}
	if err := it.Close(); err != nil {
		failed(err)
	}
}
