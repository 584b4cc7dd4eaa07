package control

import (
	"time"

	"smtpd/runtime/imsg"
)

// The requests of a client, and the answers: each has the type and the id of
// its request, or typeFailed and a text.
const (
	typeSession uint32 = iota + 1 // answered with a descriptor
	typeStatus                    // root and the daemon's account only
	typeFailed
)

// Status says how the daemon does.
type Status struct {
	PID     int
	Started time.Time
}

func (s Status) append(b []byte) []byte {
	return imsg.AppendTime(imsg.AppendUint32(b, uint32(s.PID)), s.Started)
}

func (s *Status) parse(b []byte) error {
	r := imsg.NewReader(b)
	s.PID, s.Started = int(r.Uint32()), r.Time()
	return r.Close()
}
