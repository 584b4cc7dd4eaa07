package queue

import (
	"context"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// What others ask of the queue.
const (
	msgCreate     uint32 = iota + 1 // smtp
	msgSubmit                       // mfa
	msgCommit                       // smtp
	msgRollback                     // smtp
	msgOpen                         // mda, mta, control
	msgList                         // control
	msgManage                       // control
	msgPause                        // control
	msgPaused                       // control
	msgPauseSMTP                    // control
	msgSMTPPaused                   // smtp
	msgOrder                        // control
	msgCheck                        // control
	msgImport                       // control
	msgHurry                        // mta
	msgWaitSpace                    // smtp
	msgContent                      // smtp
	msgKeep                         // control
	msgKept                         // mta
	msgWithdraw                     // mfa: the envelopes of a message that is not committed
)

// What the queue asks of others.
const (
	msgDeliver uint32 = iota + 1 // mda, mta
	msgReport                    // mfa
)

// A Deliverer carries envelopes on. All envelopes of a batch belong to one
// message and one action, and have one destination: for mta the domain, or
// the action itself if it names a relay host; for mda the user. Deliver
// returns one Result for each envelope, in any order; an envelope without
// one, and every envelope after an error, counts as not tried.
type Deliverer interface {
	Deliver(ctx context.Context, batch []envelope.Envelope) ([]Result, error)
}

// A Submitter resolves the recipient of a report, as for a message from the
// null sender and the local host that server names, and submits the envelopes
// under msg. The text of an error is a reply line: one that begins with 5 is
// final.
type Submitter interface {
	SubmitReport(ctx context.Context, msg envelope.MessageID, server string, rcpt envelope.Address) error
}

// An Outcome says how a try ended.
type Outcome uint8

// The outcomes.
const (
	Delivered Outcome = iota + 1
	TempFail
	PermFail
	Loop // permanent: the message has been here before
)

var outcomeNames = [...]string{"?", "Ok", "TempFail", "PermFail", "Loop"}

// String returns the word that logs show.
func (o Outcome) String() string { return outcomeNames[o] }

// A Result is what became of one envelope.
type Result struct {
	ID      envelope.ID
	Outcome Outcome
	Status  string // enhanced status code, such as "5.1.1"; "" if unknown
	Text    string // reply line, or what went wrong
	Remote  string // the host that said so; "" if it was this one
	DSN     bool   // Delivered: that host reports success itself
}

// maxText bounds what is kept of a reply that a remote host chose.
const maxText = 2048

func (r *Result) append(b []byte) []byte {
	b = imsg.AppendUint64(b, uint64(r.ID))
	b = append(b, byte(r.Outcome))
	for _, s := range [...]string{r.Status, r.Text, r.Remote} {
		b = imsg.AppendString(b, s[:min(len(s), maxText)])
	}
	return imsg.AppendBool(b, r.DSN)
}

func (r *Result) read(d *imsg.Reader) {
	r.ID = envelope.ID(d.Uint64())
	r.Outcome = Outcome(d.Byte())
	if r.Outcome < Delivered || r.Outcome > Loop {
		d.Fail()
	}
	for _, s := range [...]*string{&r.Status, &r.Text, &r.Remote} {
		*s = d.String()
	}
	r.DSN = d.Bool()
}

type results []Result

func (l results) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(len(l)))
	for i := range l {
		b = l[i].append(b)
	}
	return b
}

func (l *results) parse(b []byte) error {
	r := imsg.NewReader(b)
	*l = make(results, r.Count(22))
	for i := range *l {
		(*l)[i].read(r)
	}
	return r.Close()
}

// envelopes are what travels in Submit and Deliver.
type envelopes []envelope.Envelope

func (l envelopes) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(len(l)))
	var one []byte
	for i := range l {
		one = l[i].Append(one[:0])
		b = imsg.AppendBytes(b, one)
	}
	return b
}

func (l *envelopes) read(r *imsg.Reader) {
	*l = make(envelopes, r.Count(4))
	for i := range *l {
		ev, err := envelope.Parse(r.Bytes())
		if err != nil {
			r.Fail()
			return
		}
		(*l)[i] = ev
	}
}

func (l *envelopes) parse(b []byte) error {
	r := imsg.NewReader(b)
	l.read(r)
	return r.Close()
}

// A submission adds envelopes to a message.
type submission struct {
	Message   envelope.MessageID
	Envelopes envelopes
}

func (s *submission) append(b []byte) []byte {
	return s.Envelopes.append(imsg.AppendUint32(b, uint32(s.Message)))
}

func (s *submission) parse(b []byte) error {
	r := imsg.NewReader(b)
	s.Message = envelope.MessageID(r.Uint32())
	s.Envelopes.read(r)
	return r.Close()
}

// ids answer a submission.
type ids []envelope.ID

func (l ids) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(len(l)))
	for _, id := range l {
		b = imsg.AppendUint64(b, uint64(id))
	}
	return b
}

func (l *ids) parse(b []byte) error {
	r := imsg.NewReader(b)
	*l = make(ids, r.Count(8))
	for i := range *l {
		(*l)[i] = envelope.ID(r.Uint64())
	}
	return r.Close()
}

// A commitRequest asks for a message to be made durable, and, if Next is set,
// for the beginning of another: a session that sends much then has it already.
type commitRequest struct {
	Message envelope.MessageID
	Next    bool
	Content []byte // what msgContent has not brought
}

func (c *commitRequest) append(b []byte) []byte {
	return imsg.AppendBytes(imsg.AppendBool(imsg.AppendUint32(b, uint32(c.Message)), c.Next), c.Content)
}

func (c *commitRequest) parse(b []byte) error {
	r := imsg.NewReader(b)
	*c = commitRequest{envelope.MessageID(r.Uint32()), r.Bool(), r.Bytes()}
	return r.Close()
}

// A contentPiece adds to the content of a message.
type contentPiece struct {
	Message envelope.MessageID
	Text    []byte
}

func (p *contentPiece) append(b []byte) []byte {
	return imsg.AppendBytes(imsg.AppendUint32(b, uint32(p.Message)), p.Text)
}

func (p *contentPiece) parse(b []byte) error {
	r := imsg.NewReader(b)
	*p = contentPiece{envelope.MessageID(r.Uint32()), r.Bytes()}
	return r.Close()
}

// A messageRef names a message: the request of Rollback and Open,
// and the answer to Create.
type messageRef envelope.MessageID

func (m messageRef) append(b []byte) []byte { return imsg.AppendUint32(b, uint32(m)) }

func (m *messageRef) parse(b []byte) error {
	r := imsg.NewReader(b)
	*m = messageRef(r.Uint32())
	if *m == 0 {
		r.Fail()
	}
	return r.Close()
}

// A reportRequest asks mfa to resolve the recipient of a report.
type reportRequest struct {
	Message envelope.MessageID
	Server  string
	Rcpt    envelope.Address
}

func (q *reportRequest) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(q.Message))
	b = imsg.AppendString(b, q.Server)
	return imsg.AppendString(imsg.AppendString(b, q.Rcpt.User), q.Rcpt.Domain)
}

func (q *reportRequest) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Message = envelope.MessageID(r.Uint32())
	q.Server = r.String()
	q.Rcpt = envelope.Address{User: r.String(), Domain: r.String()}
	return r.Close()
}

// A listRequest asks for envelopes with a greater id than After.
type listRequest struct {
	After envelope.ID
	Count uint32
	Sizes bool
}

func (q *listRequest) append(b []byte) []byte {
	return imsg.AppendBool(imsg.AppendUint32(imsg.AppendUint64(b, uint64(q.After)), q.Count), q.Sizes)
}

func (q *listRequest) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.After, q.Count, q.Sizes = envelope.ID(r.Uint64()), r.Uint32(), r.Bool()
	return r.Close()
}

// A listing answers a listRequest.
type listing []Listed

func (l listing) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(len(l)))
	var one []byte
	for i := range l {
		one = l[i].Envelope.Append(one[:0])
		b = imsg.AppendBytes(b, one)
		b = imsg.AppendUint64(b, uint64(l[i].Size))
		b = imsg.AppendBool(b, l[i].InFlight)
		b = imsg.AppendString(imsg.AppendString(b, l[i].Why), l[i].Error)
	}
	return b
}

func (l *listing) parse(b []byte) error {
	r := imsg.NewReader(b)
	*l = make(listing, r.Count(21))
	for i := range *l {
		ev, err := envelope.Parse(r.Bytes())
		if err != nil {
			r.Fail()
			break
		}
		(*l)[i] = Listed{ev, int64(r.Uint64()), r.Bool(), r.String(), r.String()}
	}
	return r.Close()
}

// A manageRequest is answered with the number of envelopes.
type manageRequest struct {
	Verb      Verb
	Selection Selection
}

func (q *manageRequest) append(b []byte) []byte {
	b = append(b, byte(q.Verb))
	b = imsg.AppendUint32(b, uint32(q.Selection.Message))
	return imsg.AppendUint64(b, uint64(q.Selection.Envelope))
}

func (q *manageRequest) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Verb = Verb(r.Byte())
	if q.Verb < Remove || q.Verb > Resume {
		r.Fail()
	}
	q.Selection = Selection{envelope.MessageID(r.Uint32()), envelope.ID(r.Uint64())}
	return r.Close()
}

// A pauseRequest is answered with whether it changed anything.
type pauseRequest struct {
	Type envelope.Type
	On   bool
}

func (q *pauseRequest) append(b []byte) []byte {
	return imsg.AppendBool(append(b, byte(q.Type)), q.On)
}

func (q *pauseRequest) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Type, q.On = envelope.Type(r.Byte()), r.Bool()
	if q.Type != envelope.MDA && q.Type != envelope.MTA {
		r.Fail()
	}
	return r.Close()
}
