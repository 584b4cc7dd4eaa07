// Package dsn owns the form of delivery status notifications: a message from
// the null sender that tells a person and a program what became of their mail
// (RFC 3464), in a multipart/report (RFC 6522) with the headers, or all, of
// the message that it is about.
//
// The queue calls it. It decides nothing: who gets a report, and when, is the
// queue's business. Text that a remote host chose is only ever a value here:
// it begins no line and ends no part.
package dsn

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/rfc5321"
)

// A Report is one notification about one message to its sender.
type Report struct {
	Server     string // who reports
	To         envelope.Address
	Kind       envelope.BounceKind
	Arrival    time.Time
	EnvID      string // xtext, as the sender gave it
	Full       bool   // RET=FULL: a failure returns the whole message
	UTF8       bool   // who gets it reads RFC 6533
	Recipients []Recipient

	Date time.Time
	ID   string // unique: of the message and of its boundary
}

// A Recipient is one whom the report is about.
type Recipient struct {
	Original    string // ORCPT, type;xtext
	Named       envelope.Address
	Final       envelope.Address
	Status      string
	Diagnostic  string // the reply, or what went wrong
	Remote      string // who said so; "" if it was this host
	LastAttempt time.Time
	Until       time.Time // when a Delayed one is given up
}

// New returns a report about envelopes of type Bounce that have message,
// sender, server and kind in common.
func New(server string, group []envelope.Envelope) *Report {
	first := &group[0]
	r := &Report{
		Server: server, To: first.Sender, Kind: first.BounceKind,
		Arrival: first.Arrival, EnvID: first.EnvID,
		// A message that requires TLS does not go back without (RFC 8689, section 5).
		Full: first.Ret == "FULL" && first.Flags&envelope.RequireTLS == 0,
		// Who sent by SMTPUTF8 is who can read it (RFC 6533, section 5).
		UTF8: first.Flags&envelope.SMTPUTF8 != 0,
	}
	for i := range group {
		ev := &group[i]
		r.Recipients = append(r.Recipients, Recipient{
			Original: ev.ORcpt, Named: ev.Rcpt, Final: ev.Dest,
			Status: ev.Status, Diagnostic: ev.Error, Remote: ev.Remote,
			LastAttempt: ev.LastTry, Until: ev.Deadline,
		})
	}
	return r
}

var actions = [...]string{"", "failed", "delayed", "delivered", "relayed"}

// openings tell a person what the report says.
var openings = [...]string{"",
	"Your message could not be delivered to the following recipients:",
	"Your message has not been delivered yet to the following recipients:",
	"Your message was delivered to these recipients:",
	"Your message was relayed to these recipients:",
}

// Write writes the report with LF line ends. original is the message, or nil
// if there is none to return; it is read once, in pieces.
func (r *Report) Write(w io.Writer, original io.Reader) error {
	b := bufio.NewWriter(w)
	r.header(b)
	r.explain(b)
	r.status(b)
	if original != nil {
		if err := r.copyOriginal(b, original); err != nil {
			return err
		}
	}
	fmt.Fprintf(b, "\n--%s--\n", r.boundary())
	return b.Flush()
}

func (r *Report) boundary() string { return "=_" + r.ID }

func (r *Report) header(w io.Writer) {
	server := clean(r.Server)
	fmt.Fprintf(w, "Subject: Delivery status notification: %s\n", actions[r.Kind])
	fmt.Fprintf(w, "From: Mailer Daemon <MAILER-DAEMON@%s>\n", server)
	fmt.Fprintf(w, "To: <%s>\n", clean(r.To.String()))
	fmt.Fprintf(w, "Date: %s\n", date(r.Date))
	fmt.Fprintf(w, "Message-ID: <%s@%s>\n", r.ID, server)
	fmt.Fprint(w, "Auto-Submitted: auto-replied\n") // RFC 3834, section 5
	fmt.Fprint(w, "MIME-Version: 1.0\n")
	fmt.Fprintf(w, "Content-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"%s\"\n", r.boundary())
	// What is returned of the message may hold any byte: nobody looks before.
	fmt.Fprint(w, "Content-Transfer-Encoding: 8bit\n")
	fmt.Fprint(w, "\nThis is a MIME-encapsulated message.\n")
}

// part begins the next part.
func (r *Report) part(w io.Writer, description, contentType string) {
	fmt.Fprintf(w, "\n--%s\nContent-Description: %s\nContent-Type: %s\n", r.boundary(), description, contentType)
}

func (r *Report) explain(w io.Writer) {
	r.part(w, "Notification", "text/plain; charset=utf-8")
	fmt.Fprint(w, "Content-Transfer-Encoding: 8bit\n\n")
	fmt.Fprintf(w, "    Hi!\n\n    This is the MAILER-DAEMON of %s, please DO NOT REPLY to this email.\n\n", clean(r.Server))
	fmt.Fprintf(w, "    %s\n\n", openings[r.Kind])
	for i := range r.Recipients {
		c := &r.Recipients[i]
		name := clean(c.Named.String())
		if c.Named.IsNull() {
			name = clean(c.Final.String())
		}
		if r.Kind == envelope.Failed || r.Kind == envelope.Delayed {
			fmt.Fprintf(w, "%s: %s\n", name, short(c.Diagnostic))
			continue
		}
		fmt.Fprintf(w, "%s\n", name)
	}
	if r.Kind == envelope.Delayed {
		fmt.Fprintf(w, "\n    It is tried again until %s;\n    you need not send it again.\n", date(r.Recipients[0].Until))
	}
	fmt.Fprint(w, "\n    Below is a copy of the original message:\n")
}

// status writes the part for programs (RFC 3464, section 2).
func (r *Report) status(w io.Writer) {
	r.part(w, "Delivery Report", r.form("message/delivery-status", "message/global-delivery-status"))
	if r.UTF8 {
		fmt.Fprint(w, "Content-Transfer-Encoding: 8bit\n")
	}
	fmt.Fprint(w, "\n")
	if id := clean(xtext(r.EnvID)); id != "" {
		field(w, "Original-Envelope-Id", id)
	}
	field(w, "Reporting-MTA", "dns; "+clean(r.Server))
	if !r.Arrival.IsZero() {
		field(w, "Arrival-Date", date(r.Arrival))
	}
	for i := range r.Recipients {
		fmt.Fprint(w, "\n")
		r.recipient(w, &r.Recipients[i])
	}
}

// form returns the media type of a part: one that holds ASCII, or that of
// RFC 6533 with UTF-8 in its place.
func (r *Report) form(ascii, global string) string {
	if r.UTF8 {
		return global
	}
	return ascii
}

func (r *Report) recipient(w io.Writer, c *Recipient) {
	if kind, addr, ok := strings.Cut(c.Original, ";"); ok {
		field(w, "Original-Recipient", clean(kind)+"; "+r.address(xtext(addr)))
	}
	field(w, "Final-Recipient", r.finalRecipient(c.Final))
	field(w, "Action", actions[r.Kind])
	field(w, "Status", statusOf(c.Status, r.Kind))
	if remote := r.text(c.Remote); remote != "" {
		field(w, "Remote-MTA", "dns; "+remote)
	}
	if text := r.text(c.Diagnostic); text != "" && (r.Kind == envelope.Failed || r.Kind == envelope.Delayed) {
		kind := "X-Local; "
		if c.Remote != "" {
			kind = "smtp; "
		}
		field(w, "Diagnostic-Code", kind+text)
	}
	if !c.LastAttempt.IsZero() {
		field(w, "Last-Attempt-Date", date(c.LastAttempt))
	}
	if r.Kind == envelope.Delayed && !c.Until.IsZero() {
		field(w, "Will-Retry-Until", date(c.Until))
	}
}

func (r *Report) finalRecipient(a envelope.Address) string {
	if rfc5321.IsASCII(a.String()) {
		return "rfc822; " + clean(a.String())
	}
	return "utf-8; " + r.address(a.String())
}

// address returns an address as a field may hold it.
func (r *Report) address(s string) string {
	if r.UTF8 {
		return clean(unescape(s))
	}
	return clean(rfc5321.Escape(s))
}

// text returns what a host said as a field may hold it.
func (r *Report) text(s string) string {
	if s = clean(s); r.UTF8 {
		return s
	}
	return ascii(s)
}

// statusOf returns status if it is one (RFC 3463, section 2) whose class
// goes with the kind, and otherwise the general one of the kind.
func statusOf(status string, kind envelope.BounceKind) string {
	class := [...]string{"", "5", "4", "2", "2"}[kind]
	var a, b, c int
	n, err := fmt.Sscanf(status+" ", "%1d.%3d.%3d ", &a, &b, &c)
	if n != 3 || err != nil || fmt.Sprintf("%d.%d.%d", a, b, c) != status {
		return class + ".0.0"
	}
	return class + status[1:] // "4.4.1" for what has failed for good means "5.4.1"
}

// copyOriginal returns the message or its header. Only a failure returns all
// of it, and only if that was asked for (RFC 3461, section 4.3).
func (r *Report) copyOriginal(w *bufio.Writer, original io.Reader) error {
	if r.Full && r.Kind == envelope.Failed {
		r.part(w, "Original message", r.form("message/rfc822", "message/global"))
		fmt.Fprint(w, "Content-Transfer-Encoding: 8bit\n\n")
		_, err := io.Copy(w, original)
		return err
	}
	r.part(w, "Message headers", r.form("text/rfc822-headers", "message/global-headers"))
	fmt.Fprint(w, "Content-Transfer-Encoding: 8bit\n\n")
	return copyHeader(w, original)
}

// copyHeader copies lines until an empty one.
func copyHeader(w *bufio.Writer, r io.Reader) error {
	in := bufio.NewReader(r)
	start := true
	for {
		line, err := in.ReadSlice('\n')
		if start && len(line) == 1 && line[0] == '\n' {
			return nil
		}
		w.Write(line) // its error stays until Flush
		start = len(line) > 0 && line[len(line)-1] == '\n'
		switch err {
		case nil, bufio.ErrBufferFull:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

func date(t time.Time) string { return t.Format("Mon, 2 Jan 2006 15:04:05 -0700") }
