package source

import "context"

// A pool keeps connections on which one question is asked at a time, for
// sources whose libraries have none.
type pool[C any] struct {
	idle  chan C
	dial  func(ctx context.Context) (C, error)
	close func(C)
}

func newPool[C any](size int, dial func(ctx context.Context) (C, error), end func(C)) *pool[C] {
	return &pool[C]{idle: make(chan C, size), dial: dial, close: end}
}

// use calls f with a connection, which it keeps if f says so. If one that was
// idle turns out to be of no use the question is asked again on a new one: the
// server may have closed it meanwhile.
func (p *pool[C]) use(ctx context.Context, f func(c C) (keep bool, err error)) error {
	select {
	case c := <-p.idle:
		if keep, err := p.once(ctx, c, f); keep || err == nil || ctx.Err() != nil {
			return err
		}
	default:
	}
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	_, err = p.once(ctx, c, f)
	return err
}

// once asks on c. At the end of ctx it is closed, so that f ends too.
func (p *pool[C]) once(ctx context.Context, c C, f func(c C) (keep bool, err error)) (bool, error) {
	stop := context.AfterFunc(ctx, func() { p.close(c) })
	keep, err := f(c)
	if !stop() { // it was closed
		return false, context.Cause(ctx)
	}
	if keep {
		select {
		case p.idle <- c:
			return true, err
		default:
		}
	}
	p.close(c)
	return keep, err
}

// drop closes the idle connections.
func (p *pool[C]) drop() {
	for {
		select {
		case c := <-p.idle:
			p.close(c)
		default:
			return
		}
	}
}
