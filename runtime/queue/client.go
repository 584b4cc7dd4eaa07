package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// A Client asks the queue.
type Client struct {
	peer *imsg.Peer

	mu     sync.Mutex
	stock  []envelope.MessageID // begun with the answers to commits, and not used
	round  int                  // goes up when the queue has forgotten them
	drafts map[envelope.MessageID]*draft
}

// maxStock bounds how many messages a client has begun and not used.
const maxStock = 16

// NewClient returns a Client that asks over p.
func NewClient(p *imsg.Peer) *Client {
	c := &Client{peer: p, drafts: make(map[envelope.MessageID]*draft)}
	p.OnLoss(c.forget)
	return c
}

// forget drops the stock, and what was not committed.
func (c *Client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stock = nil
	clear(c.drafts)
	c.round++
}

// take returns a message of the stock.
func (c *Client) take() (id envelope.MessageID, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.stock); n > 0 {
		id = c.stock[n-1]
		c.stock = c.stock[:n-1]
		return id, true
	}
	return 0, false
}

// keep puts what came with an answer into the stock, unless the queue that
// gave it is gone.
func (c *Client) keep(m imsg.Message, round int) {
	var ref messageRef
	if ref.parse(m.Data) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.round == round {
		c.stock = append(c.stock, envelope.MessageID(ref))
	}
}

// A draft takes the content of a message until its commit: in memory while it
// is small, and then in the store of the queue, which gets it in frames.
//
// A descriptor of a file would be an alternative. It costs calls at both ends
// that are more than what frames cost (BenchmarkContent), and who can write a
// file can do so after the commit, so that it had to be copied.
type draft struct {
	contentBuffer
	piece contentPiece
	frame []byte // kept for its memory
}

// send passes a piece on and returns when it is stored.
func (c *Client) send(ctx context.Context, d *draft, text []byte) error {
	d.piece.Text = text
	d.frame = d.piece.append(d.frame[:0])
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgContent, Data: d.frame})
	closeFile(m.File)
	return err
}

// Create begins a message. What it returns takes the content, with LF line
// ends.
func (c *Client) Create(ctx context.Context) (envelope.MessageID, io.Writer, error) {
	id, ok := c.take()
	if !ok {
		m, err := c.peer.Call(ctx, imsg.Message{Type: msgCreate})
		closeFile(m.File)
		if err != nil {
			return 0, nil, err
		}
		var ref messageRef
		if err := ref.parse(m.Data); err != nil {
			return 0, nil, err
		}
		id = envelope.MessageID(ref)
	}
	d := &draft{piece: contentPiece{Message: id}}
	d.next = func(text []byte) error { return c.send(ctx, d, text) }
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drafts[id] = d
	return id, d, nil
}

// finish takes a message out of those under way, and returns what goes with
// the commit of its content.
func (c *Client) finish(id envelope.MessageID) (text []byte, round int, next bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.drafts[id]; d != nil {
		text = d.rest
		delete(c.drafts, id)
	}
	return text, c.round, len(c.stock) < maxStock
}

// Submit adds envelopes to a message that is not committed yet; nothing is
// durable before Commit. The queue sets ID, Created, Expires and NextTry.
func (c *Client) Submit(ctx context.Context, msg envelope.MessageID, evs []envelope.Envelope) ([]envelope.ID, error) {
	s := submission{msg, evs}
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgSubmit, Data: s.append(nil)})
	if err != nil {
		return nil, err
	}
	closeFile(m.File)
	var l ids
	if err := l.parse(m.Data); err != nil {
		return nil, err
	}
	return l, nil
}

// Commit takes what was written as the message's content and returns
// when it and all envelopes are on disk. After an error the message is gone.
func (c *Client) Commit(ctx context.Context, msg envelope.MessageID) error {
	text, round, next := c.finish(msg)
	q := commitRequest{msg, next, text}
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgCommit, Data: q.append(make([]byte, 0, len(text)+16))})
	closeFile(m.File)
	if err == nil {
		c.keep(m, round)
	}
	return err
}

// Withdraw takes all envelopes from a message that is not committed, so that
// others can take their place.
func (c *Client) Withdraw(ctx context.Context, msg envelope.MessageID) error {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgWithdraw, Data: messageRef(msg).append(nil)})
	closeFile(m.File)
	return err
}

// Rollback forgets a message that is not committed. It does not wait.
func (c *Client) Rollback(_ context.Context, msg envelope.MessageID) {
	c.finish(msg)
	c.peer.Notify(imsg.Message{Type: msgRollback, Data: messageRef(msg).append(nil)})
}

// Open returns the content of a committed message, to be read from its
// beginning; the caller closes it.
func (c *Client) Open(ctx context.Context, msg envelope.MessageID) (*os.File, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgOpen, Data: messageRef(msg).append(nil)})
	if err != nil {
		return nil, err
	}
	if m.File == nil {
		return nil, errNoFile
	}
	return m.File, nil
}

// Hurry has envelopes tried now that wait for their next try: what stood in
// their way does so no more.
func (c *Client) Hurry(ctx context.Context, l []envelope.ID) error {
	_, err := c.peer.Call(ctx, imsg.Message{Type: msgHurry, Data: ids(l).append(nil)})
	return err
}

// List visits all envelopes with a greater id than after, in the order of
// their ids. It asks for a page at a time: neither end holds the list.
func (c *Client) List(ctx context.Context, after envelope.ID) iter.Seq2[Listed, error] {
	return c.list(ctx, after, false)
}

// ListSized is List, with the sizes of the messages.
func (c *Client) ListSized(ctx context.Context, after envelope.ID) iter.Seq2[Listed, error] {
	return c.list(ctx, after, true)
}

func (c *Client) list(ctx context.Context, after envelope.ID, sizes bool) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		next := c.page(ctx, listRequest{after, maxList, sizes})
		for next != nil {
			p := <-next
			next = nil
			if p.err != nil {
				yield(Listed{}, p.err)
				return
			}
			// The queue makes the next page while this one is looked at.
			if n := len(p.list); n == maxList {
				next = c.page(ctx, listRequest{p.list[n-1].Envelope.ID, maxList, sizes})
			}
			for _, l := range p.list {
				if !yield(l, nil) {
					return
				}
			}
		}
	}
}

// A listPage is what came of a listRequest.
type listPage struct {
	list listing
	err  error
}

// page asks for a page, which comes by a channel.
func (c *Client) page(ctx context.Context, q listRequest) <-chan listPage {
	answer := make(chan listPage, 1)
	go func() {
		var p listPage
		m, err := c.peer.Call(ctx, imsg.Message{Type: msgList, Data: q.append(nil)})
		closeFile(m.File)
		if p.err = err; err == nil {
			p.err = p.list.parse(m.Data)
		}
		answer <- p
	}()
	return answer
}

// Manage does verb with what sel holds, and returns with how many envelopes.
func (c *Client) Manage(ctx context.Context, verb Verb, sel Selection) (int, error) {
	q := manageRequest{verb, sel}
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgManage, Data: q.append(nil)})
	closeFile(m.File)
	if err != nil {
		return 0, err
	}
	r := imsg.NewReader(m.Data)
	n := r.Uint32()
	return int(n), r.Close()
}

// Order has o done, and returns with how many envelopes it was.
func (c *Client) Order(ctx context.Context, o *Order) (int, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgOrder, Data: o.Append(nil)})
	closeFile(m.File)
	if err != nil {
		return 0, err
	}
	r := imsg.NewReader(m.Data)
	n := r.Uint32()
	return int(n), r.Close()
}

// Check looks at some records of the store, from a place that the last page
// named, and mends what is wrong with them.
func (c *Client) Check(ctx context.Context, from string) (CheckPage, error) {
	var page CheckPage
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgCheck, Data: imsg.AppendString(nil, from)})
	closeFile(m.File)
	if err == nil {
		err = page.parse(m.Data)
	}
	return page, err
}

// Import takes over a message that WriteImport and its caller have written
// into f. It closes f.
func (c *Client) Import(ctx context.Context, q *Import, f *os.File) (*Imported, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgImport, Data: q.Append(nil), File: f})
	closeFile(m.File)
	if err != nil {
		return nil, err
	}
	got := new(Imported)
	return got, got.Parse(m.Data)
}

// Pause stops or resumes handing out envelopes of type MDA or MTA, and
// reports whether that changed anything.
func (c *Client) Pause(ctx context.Context, t envelope.Type, on bool) (bool, error) {
	q := pauseRequest{t, on}
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgPause, Data: q.append(nil)})
	closeFile(m.File)
	if err != nil {
		return false, err
	}
	r := imsg.NewReader(m.Data)
	changed := r.Bool()
	return changed, r.Close()
}

// Paused reports what is not handed out.
func (c *Client) Paused(ctx context.Context) (mda, mta bool, err error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgPaused})
	if err != nil {
		return false, false, err
	}
	closeFile(m.File)
	r := imsg.NewReader(m.Data)
	mda, mta = r.Bool(), r.Bool()
	return mda, mta, r.Close()
}

// KeepPausedRoutes has the queue remember, over restarts, the mail that mta was
// told to stop, as mta shows it.
func (c *Client) KeepPausedRoutes(ctx context.Context, text string) error {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgKeep, Data: imsg.AppendString(nil, text)})
	closeFile(m.File)
	return err
}

// PausedRoutes returns what KeepPausedRoutes was last told.
func (c *Client) PausedRoutes(ctx context.Context) (string, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgKept})
	closeFile(m.File)
	if err != nil {
		return "", err
	}
	r := imsg.NewReader(m.Data)
	text := r.String()
	return text, r.Close()
}

// KeepSMTPPaused has the queue remember, over restarts, whether smtp is paused.
func (c *Client) KeepSMTPPaused(ctx context.Context, on bool) error {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgPauseSMTP, Data: imsg.AppendBool(nil, on)})
	closeFile(m.File)
	return err
}

// WaitSpace returns whether the queue has no room for mail, once that is not
// what known says.
func (c *Client) WaitSpace(ctx context.Context, known bool) (full bool, err error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgWaitSpace, Data: imsg.AppendBool(nil, known)})
	closeFile(m.File)
	if err != nil {
		return known, err
	}
	r := imsg.NewReader(m.Data)
	full = r.Bool()
	return full, r.Close()
}

// SMTPPaused reports whether smtp was paused when it last ran.
func (c *Client) SMTPPaused(ctx context.Context) (bool, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgSMTPPaused})
	closeFile(m.File)
	if err != nil {
		return false, err
	}
	r := imsg.NewReader(m.Data)
	paused := r.Bool()
	return paused, r.Close()
}

var errNoFile = errors.New("a descriptor is missing")

// A remoteDeliverer is mda or mta at the other end of a connection.
type remoteDeliverer struct{ peer *imsg.Peer }

func (d remoteDeliverer) Deliver(ctx context.Context, batch []envelope.Envelope) ([]Result, error) {
	data := envelopes(batch).append(nil)
	// The other end would take a longer message for an attack and hang up.
	if len(data) > imsg.MaxMessage && len(batch) > 1 {
		half := len(batch) / 2
		first, err1 := d.Deliver(ctx, batch[:half])
		second, err2 := d.Deliver(ctx, batch[half:])
		return append(first, second...), errors.Join(err1, err2)
	}
	m, err := d.peer.Call(ctx, imsg.Message{Type: msgDeliver, Data: data})
	if err != nil {
		return nil, err
	}
	closeFile(m.File)
	var l results
	if err := l.parse(m.Data); err != nil {
		return nil, err
	}
	return l, nil
}

// DelivererHandler serves what the queue asks of mda and mta.
func DelivererHandler(d Deliverer) imsg.Handler {
	return func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
		closeFile(m.File)
		if m.Type != msgDeliver {
			return imsg.Message{}, errUnknown(m.Type)
		}
		var batch envelopes
		if err := batch.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		l, err := d.Deliver(ctx, batch)
		return imsg.Message{Data: results(l).append(nil)}, err
	}
}

// A remoteSubmitter is mfa at the other end of a connection.
type remoteSubmitter struct{ peer *imsg.Peer }

func (s remoteSubmitter) SubmitReport(ctx context.Context, msg envelope.MessageID, server string, rcpt envelope.Address) error {
	q := reportRequest{msg, server, rcpt}
	m, err := s.peer.Call(ctx, imsg.Message{Type: msgReport, Data: q.append(nil)})
	closeFile(m.File)
	return err
}

// SubmitterHandler serves what the queue asks of mfa.
func SubmitterHandler(s Submitter) imsg.Handler {
	return func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
		closeFile(m.File)
		if m.Type != msgReport {
			return imsg.Message{}, errUnknown(m.Type)
		}
		var q reportRequest
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{}, s.SubmitReport(ctx, q.Message, q.Server, q.Rcpt)
	}
}

func errUnknown(typ uint32) error { return fmt.Errorf("no requests of type %d here", typ) }

// closeFile closes a descriptor that came with a message that wants none.
func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}
