package queue

import (
	"slices"

	"smtpd/runtime/envelope"
)

// lines are the tasks of one destination that wait for their turn, in a line
// for each sender: who sends much keeps no other waiting. What a walk has
// brought stands in a line of its own, since nobody knows its senders before
// it is loaded.
type lines struct {
	count  int
	turn   []*line // the first is next
	byFrom map[from]*line
}

// A from is whose line a task stands in; zero: that of the walk.
type from struct {
	known  bool
	sender envelope.Address
}

func fromOf(ev *envelope.Envelope) from {
	if ev == nil {
		return from{}
	}
	return from{true, ev.Sender}
}

// A line is never empty.
type line struct {
	from  from
	tasks []*task
}

func (l *lines) push(t *task) {
	l.count++
	if at := l.byFrom[t.from]; at != nil {
		at.tasks = append(at.tasks, t)
		return
	}
	if l.byFrom == nil {
		l.byFrom = make(map[from]*line)
	}
	at := &line{t.from, []*task{t}}
	l.byFrom[t.from] = at
	l.turn = append(l.turn, at)
}

// first returns the task whose turn it is; there is one.
func (l *lines) first() *task { return l.turn[0].tasks[0] }

// pop takes the first, whose line goes behind the others.
func (l *lines) pop() *task {
	at := l.turn[0]
	t := at.tasks[0]
	at.tasks[0] = nil
	at.tasks = at.tasks[1:]
	l.turn[0] = nil
	l.turn = l.turn[1:]
	l.count--
	if len(at.tasks) > 0 {
		l.turn = append(l.turn, at)
	} else {
		delete(l.byFrom, at.from)
	}
	return t
}

// remove takes t out of its line.
func (l *lines) remove(t *task) {
	at := l.byFrom[t.from]
	at.tasks = slices.DeleteFunc(at.tasks, func(o *task) bool { return o == t })
	l.count--
	if len(at.tasks) == 0 {
		delete(l.byFrom, at.from)
		l.turn = slices.DeleteFunc(l.turn, func(o *line) bool { return o == at })
	}
}

// find returns the task that holds an envelope, and where.
func (l *lines) find(id envelope.ID) (t *task, at int) {
	for _, line := range l.turn {
		for _, t := range line.tasks {
			if at := slices.IndexFunc(t.items, func(it item) bool { return it.entry.ID == id }); at >= 0 {
				return t, at
			}
		}
	}
	return nil, 0
}
