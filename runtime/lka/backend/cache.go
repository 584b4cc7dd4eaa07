package backend

import "time"

// A cache keeps answers until they are too old. It holds two generations:
// when the young one has half of the size it becomes the old one, whose
// answers are forgotten unless they are asked for again.
type cache struct {
	size       int
	young, old map[question]remembered
}

type remembered struct {
	answer
	until time.Time
}

func (c *cache) get(q question, now time.Time) (answer, bool) {
	e, ok := c.young[q]
	if !ok {
		if e, ok = c.old[q]; ok {
			c.set(q, e)
		}
	}
	return e.answer, ok && now.Before(e.until)
}

func (c *cache) put(q question, a answer, until time.Time) {
	if c.size > 0 {
		c.set(q, remembered{a, until})
	}
}

func (c *cache) set(q question, e remembered) {
	if c.young == nil || len(c.young) >= max(c.size/2, 1) {
		c.old, c.young = c.young, make(map[question]remembered)
	}
	c.young[q] = e
}
