package queue

import (
	"math"
	"time"

	"smtpd/runtime/envelope"
)

// base returns the unit of the retry law: a try follows creation by base
// times the square of its number.
func base(t envelope.Type) time.Duration {
	if t == envelope.MTA {
		return 400 * time.Second
	}
	return 10 * time.Second
}

// nextTry returns the smallest time created + base × n² that is later than
// now, for n from tries on.
func nextTry(t envelope.Type, created time.Time, tries uint32, now time.Time) time.Time {
	unit := base(t)
	n := int64(tries)
	if age := now.Sub(created); age > 0 {
		n = max(n, int64(math.Sqrt(float64(age/unit))))
	}
	// Far beyond any lifetime, and within what a Duration can hold.
	n = min(n, int64(math.Sqrt(float64(math.MaxInt64/unit)))-2)
	for {
		at := created.Add(unit * time.Duration(n*n))
		if at.After(now) {
			return at
		}
		n++
	}
}

// delayNotice returns the first of the ages at which a delay is reported that
// ev, which is tried next at NextTry, reaches by then and has not reported.
func delayNotice(ev *envelope.Envelope, ages []time.Duration) (time.Duration, bool) {
	for _, age := range ages {
		at := ev.Created.Add(age)
		if !ev.NextTry.Before(at) && ev.LastBounce.Before(at) {
			return age, true
		}
	}
	return 0, false
}
