package queue

import (
	"fmt"
	"log/slog"
	"sync"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// pauses are what an administrator has stopped. The queue keeps them over
// restarts, for smtp too, which has no store of its own.
type pauses struct {
	store keeper // nil: they end with the process

	mu  sync.Mutex
	now pauseSet
}

// A pauseSet says what is paused.
type pauseSet struct{ mda, mta, smtp bool }

func (s *pauseSet) append(b []byte) []byte {
	for _, paused := range [...]bool{s.mda, s.mta, s.smtp} {
		b = imsg.AppendBool(b, paused)
	}
	return b
}

func (s *pauseSet) parse(b []byte) error {
	r := imsg.NewReader(b)
	for _, paused := range [...]*bool{&s.mda, &s.mta, &s.smtp} {
		*paused = r.Bool()
	}
	return r.Close()
}

// pausedSetting is where the store keeps them.
const pausedSetting = "paused"

// load reads what was paused when the queue last ran. What cannot be read is
// logged, and nothing is paused: mail that moves is what was promised.
func (p *pauses) load(s Store, log *slog.Logger) {
	p.store, _ = s.(keeper)
	if p.store == nil {
		return
	}
	b, err := p.store.setting(pausedSetting)
	if err == nil && b != nil {
		err = p.now.parse(b)
	}
	if err != nil {
		p.now = pauseSet{}
		log.Error("queue: nobody knows what was paused", "error", err)
	}
}

// change changes the set and returns when that is kept.
func (p *pauses) change(f func(*pauseSet)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.now
	f(&next)
	if next == p.now {
		return nil
	}
	if p.store != nil {
		if err := p.store.keep(pausedSetting, next.append(nil)); err != nil {
			return fmt.Errorf("keep what is paused: %w", err)
		}
	}
	p.now = next
	return nil
}

func (p *pauses) get() pauseSet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// routesSetting is where the store keeps what mta was told to stop, as mta
// shows it.
const routesSetting = "paused routes"

// keepRoutes keeps a text of control; keptRoutes gives it to mta.
func (p *pauses) keepRoutes(text string) error {
	if p.store == nil {
		return nil
	}
	return p.store.keep(routesSetting, []byte(text))
}

func (p *pauses) keptRoutes() (string, error) {
	if p.store == nil {
		return "", nil
	}
	b, err := p.store.setting(routesSetting)
	return string(b), err
}

// pause stops or resumes handing out envelopes of one type, and reports
// whether that changed anything. It is kept before it is done.
func (a *agent) pause(t envelope.Type, on bool) (bool, error) {
	err := a.pauses.change(func(s *pauseSet) {
		if t == envelope.MDA {
			s.mda = on
		} else {
			s.mta = on
		}
	})
	if err != nil {
		return false, err
	}
	return a.scheduler.pauseAll(t, on), nil
}
