package control

import (
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/queue"
)

// The requests of a client, and the answers: each has the type and the id of
// its request, or typeFailed and a text. All but typeSession are for root and
// the daemon's account only.
const (
	typeSession uint32 = iota + 1 // answered with a descriptor
	typeStatus                    // answered with a Status
	typeFailed
	typeList     // answered with a Listed a frame, and at the end one without
	typeManage   // answered with the number of envelopes
	typePause    // answered with whether it changed anything
	typeMessage  // answered with a descriptor
	typeVerbose  // answered with nothing
	typeUpdate   // answered with nothing
	typeReload   // answered with pieces of text, and at the end with none and whether it was done
	typeStop     // answered with nothing
	typeStats    // answered with pieces of text, and at the end with none
	typeMetrics  // likewise
	typeTrace    // answered with a descriptor, in which lines come
	typeRules    // answered with a RuleCount a frame, and at the end one without
	typeOrder    // answered with the number of envelopes
	typeLookup   // answered with how a table answered
	typeCheck    // answered with a finding a frame, and at the end with the number of records
	typeImport   // answered with what became of a message
	typeRelaying // answered with pieces of text, and at the end with none and whether it changed anything
	typeRecent   // answered with an mfa.Decided a frame, and at the end one without
	typeExplain  // answered with an mfa.Decided, then an mfa.Passed a frame, and at the end how many more there are
)

// Status says how the daemon does.
type Status struct {
	PID            int
	Started        time.Time
	Version        string
	SMTP, MDA, MTA bool // paused
}

func (s Status) append(b []byte) []byte {
	b = imsg.AppendTime(imsg.AppendUint32(b, uint32(s.PID)), s.Started)
	b = imsg.AppendString(b, s.Version)
	for _, paused := range [...]bool{s.SMTP, s.MDA, s.MTA} {
		b = imsg.AppendBool(b, paused)
	}
	return b
}

func (s *Status) parse(b []byte) error {
	r := imsg.NewReader(b)
	s.PID, s.Started, s.Version = int(r.Uint32()), r.Time(), r.String()
	for _, paused := range [...]*bool{&s.SMTP, &s.MDA, &s.MTA} {
		*paused = r.Bool()
	}
	return r.Close()
}

// A System is what can be paused.
type System uint8

// The systems.
const (
	SMTP System = iota + 1
	MDA
	MTA
)

var systemNames = [...]string{"?", "smtp", "mda", "mta"}

// String returns the word of the command line.
func (s System) String() string { return systemNames[s] }

// A pauseRequest stops or resumes a system.
type pauseRequest struct {
	System System
	On     bool
}

func (q pauseRequest) append(b []byte) []byte {
	return imsg.AppendBool(append(b, byte(q.System)), q.On)
}

func (q *pauseRequest) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.System, q.On = System(r.Byte()), r.Bool()
	if q.System < SMTP || q.System > MTA {
		r.Fail()
	}
	return r.Close()
}

// A reloadRequest has the configuration read anew.
type reloadRequest struct {
	Show  bool // and go on by the old one
	Force bool // also if it opens a relay
}

func (q reloadRequest) append(b []byte) []byte {
	return imsg.AppendBool(imsg.AppendBool(b, q.Show), q.Force)
}

func (q *reloadRequest) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Show, q.Force = r.Bool(), r.Bool()
	return r.Close()
}

func parseName(b []byte) (string, error) {
	r := imsg.NewReader(b)
	s := r.String()
	return s, r.Close()
}

// A manageRequest does something with what a selection holds.
type manageRequest struct {
	Verb      queue.Verb
	Selection queue.Selection
}

func (q manageRequest) append(b []byte) []byte {
	return appendSelection(append(b, byte(q.Verb)), q.Selection)
}

func (q *manageRequest) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Verb = queue.Verb(r.Byte())
	if q.Verb < queue.Remove || q.Verb > queue.Resume {
		r.Fail()
	}
	q.Selection = readSelection(r)
	return r.Close()
}

func appendSelection(b []byte, s queue.Selection) []byte {
	return imsg.AppendUint64(imsg.AppendUint32(b, uint32(s.Message)), uint64(s.Envelope))
}

func readSelection(r *imsg.Reader) queue.Selection {
	return queue.Selection{Message: envelope.MessageID(r.Uint32()), Envelope: envelope.ID(r.Uint64())}
}

func parseSelection(b []byte) (queue.Selection, error) {
	r := imsg.NewReader(b)
	s := readSelection(r)
	return s, r.Close()
}

// A listRequest asks for the envelopes of a selection.
type listRequest struct {
	Selection queue.Selection
	Sizes     bool
}

func (q listRequest) append(b []byte) []byte {
	return imsg.AppendBool(appendSelection(b, q.Selection), q.Sizes)
}

func (q *listRequest) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Selection, q.Sizes = readSelection(r), r.Bool()
	return r.Close()
}

// appendListed appends an envelope of a list. One that no frame can hold is
// told by its id alone.
func appendListed(b []byte, l queue.Listed) []byte {
	one := l.Envelope.Append(nil)
	if len(one)+len(l.Why)+len(l.Error)+21 > imsg.MaxData {
		one = (&envelope.Envelope{ID: l.Envelope.ID}).Append(nil)
		l.Why, l.Error = "", "too large to be listed"
	}
	b = imsg.AppendUint64(imsg.AppendBytes(b, one), uint64(l.Size))
	b = imsg.AppendBool(b, l.InFlight)
	return imsg.AppendString(imsg.AppendString(b, l.Why), l.Error)
}

// readListed reads one of the envelopes in a frame.
func readListed(r *imsg.Reader) (queue.Listed, error) {
	ev, err := envelope.Parse(r.Bytes())
	if err != nil {
		return queue.Listed{}, err
	}
	return queue.Listed{Envelope: ev, Size: int64(r.Uint64()), InFlight: r.Bool(), Why: r.String(), Error: r.String()}, nil
}

func parseBool(b []byte) (bool, error) {
	r := imsg.NewReader(b)
	v := r.Bool()
	return v, r.Close()
}
