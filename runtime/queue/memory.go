package queue

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"

	"smtpd/runtime/envelope"
)

// memoryStore is a Store for tests: it is gone with the process.
type memoryStore struct {
	group Grouping

	mu        sync.Mutex
	begun     map[envelope.MessageID][]byte // content of what is not committed
	content   map[envelope.MessageID][]byte
	envelopes map[envelope.ID]stored
	settings  map[string][]byte
}

// NewMemoryStore returns an empty Store that keeps nothing on disk.
func NewMemoryStore(g Grouping) Store {
	return &memoryStore{
		group:     g,
		begun:     make(map[envelope.MessageID][]byte),
		content:   make(map[envelope.MessageID][]byte),
		envelopes: make(map[envelope.ID]stored),
		settings:  make(map[string][]byte),
	}
}

func (s *memoryStore) Close() error { return nil }

func (s *memoryStore) setting(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings[name], nil
}

func (s *memoryStore) keep(name string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings[name] = value
	return nil
}

func (s *memoryStore) Has(id envelope.MessageID) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.content[id]
	return ok, nil
}

func (s *memoryStore) Append(id envelope.MessageID, piece []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun[id] = append(s.begun[id], piece...)
	return nil
}

func (s *memoryStore) Discard(id envelope.MessageID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.begun, id)
}

func (s *memoryStore) Commit(m *Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content[m.ID] = append(s.begun[m.ID], m.Content...)
	delete(s.begun, m.ID)
	s.apply(&Changes{Put: m.Envelopes, Remove: m.Reported})
	return nil
}

func (s *memoryStore) Apply(c *Changes) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(c)
	return nil
}

func (s *memoryStore) apply(c *Changes) {
	for i := range c.Put {
		s.envelopes[c.Put[i].ID] = stored{s.group(&c.Put[i]), c.Put[i]}
	}
	for _, id := range c.Remove {
		delete(s.envelopes, id)
	}
	left := make(map[envelope.MessageID]bool)
	for id := range s.envelopes {
		left[id.Message()] = true
	}
	for _, id := range c.Remove {
		if !left[id.Message()] {
			delete(s.content, id.Message())
		}
	}
}

func (s *memoryStore) Open(id envelope.MessageID) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, ok := s.content[id]
	if !ok {
		return nil, fmt.Errorf("open message %v: %w", id, ErrNotFound)
	}
	return contentFile(content)
}

func (s *memoryStore) size(id envelope.MessageID) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.content[id])), nil
}

func (s *memoryStore) Load(id envelope.ID) (envelope.Envelope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.envelopes[id]
	if !ok {
		return envelope.Envelope{ID: id}, fmt.Errorf("envelope %v: %w", id, ErrNotFound)
	}
	return t.ev, nil
}

func (s *memoryStore) Walk(r Range) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range s.waiting(r) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *memoryStore) waiting(r Range) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []Entry
	for id, t := range s.envelopes {
		at, ok := due(&t.ev)
		e := Entry{Mark{at, id}, t.dest}
		if !ok || r.Dest != nil && t.dest != *r.Dest || r.After != (Mark{}) && e.compare(r.After) <= 0 {
			continue
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return a.compare(b.Mark) })
	return entries
}

func (s *memoryStore) List(after envelope.ID) iter.Seq2[envelope.Envelope, error] {
	return func(yield func(envelope.Envelope, error) bool) {
		s.mu.Lock()
		all := slices.SortedFunc(maps.Values(s.envelopes), func(a, b stored) int { return cmp.Compare(a.ev.ID, b.ev.ID) })
		s.mu.Unlock()
		for _, t := range all {
			if t.ev.ID > after && !yield(t.ev, nil) {
				return
			}
		}
	}
}
