package parent

import (
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// Requests that parent answers.
const (
	typeDeliver uint32 = iota + 1
	typeForward
	typeProgram // mfa: start a filter; answered with a descriptor
	typeReload  // control: read the configuration anew; answered with a Reloaded
	typeStop    // control: end the daemon
	typeCounted // control: what the processes have counted
	typeTrace   // control: lines of the log that mention an id; answered with a descriptor
	typeCourier // mda, mfa: answered with a descriptor that leads to the courier, or none if there is none
	typeGuest   // parent, to the courier: serve whoever has the other end of the descriptor
	typeLogin   // lka: check the password of an account of the system; answered with whether it is right
	typeMilter  // mfa: call a milter; answered with a descriptor
	typeAccount // lka: who an account is that no file has; answered with whether there is one, and uid:gid:home
)

// An Account is an identity that files and commands belong to.
type Account struct {
	Name     string
	UID, GID uint32
	Home     string
}

// A Method is what is done with the message of a Delivery.
type Method uint8

// The methods.
const (
	Maildir Method = iota + 1 // Target is the directory
	Mbox                      // Target is the file
	Command                   // Target is text for /bin/sh
	LMTP                      // Target is a socket's path or host[:port]
)

// A Delivery is one copy of a message and the place it goes to.
type Delivery struct {
	ID     envelope.ID
	As     Account // owner of the mailbox, runs the command
	Method Method
	Target string // every specifier expanded
	Junk   bool   // maildir: mail marked as spam goes to .Junk
	RcptTo bool   // lmtp: the recipient is Dest, not User

	// Wrapper is a command that is run in the place of the method. Agent is
	// part of it, and is what does the same from standard input.
	Wrapper string

	Header string // lines put before the content, each ending in LF

	User       string // recipient's user name; As may be another
	Sender     envelope.Address
	Rcpt       envelope.Address // as the client gave it
	Dest       envelope.Address // after expansion
	SubAddress string
}

// runsCommand reports whether d is done by a command.
func (d *Delivery) runsCommand() bool { return d.Method == Command || d.Wrapper != "" }

// forCourier reports whether the process that acts for all users can do d.
func (d *Delivery) forCourier() bool {
	return (d.Method == Maildir || d.Method == Mbox) && !d.runsCommand()
}

// An Outcome is how a delivery ended.
type Outcome uint8

// The outcomes.
const (
	Delivered Outcome = iota + 1
	TempFail
	PermFail
)

// A Result is the end of a delivery and what to say about it.
type Result struct {
	Outcome Outcome
	Status  string // enhanced status code, "4.2.2"
	Text    string // one line of printable ASCII
}

// forwardReply answers a request for a .forward. A file comes along only if
// State is forwardFile; Text explains the two failures.
type forwardReply struct {
	State forwardState
	Text  string
}

type forwardState uint8

const (
	forwardNone forwardState = iota + 1
	forwardFile
	forwardTemp
	forwardPerm
)

func appendAccount(b []byte, a Account) []byte {
	b = imsg.AppendString(b, a.Name)
	b = imsg.AppendUint32(b, a.UID)
	b = imsg.AppendUint32(b, a.GID)
	return imsg.AppendString(b, a.Home)
}

func readAccount(r *imsg.Reader) Account {
	return Account{Name: r.String(), UID: r.Uint32(), GID: r.Uint32(), Home: r.String()}
}

func parseAccount(p []byte) (Account, error) {
	r := imsg.NewReader(p)
	a := readAccount(r)
	return a, r.Close()
}

func appendAddress(b []byte, a envelope.Address) []byte {
	return imsg.AppendString(imsg.AppendString(b, a.User), a.Domain)
}

func readAddress(r *imsg.Reader) envelope.Address {
	return envelope.Address{User: r.String(), Domain: r.String()}
}

func appendDelivery(b []byte, d Delivery) []byte {
	b = imsg.AppendUint64(b, uint64(d.ID))
	b = appendAccount(b, d.As)
	b = append(b, byte(d.Method))
	b = imsg.AppendString(b, d.Target)
	b = imsg.AppendBool(b, d.Junk)
	b = imsg.AppendBool(b, d.RcptTo)
	b = imsg.AppendString(b, d.Wrapper)
	b = imsg.AppendString(b, d.Header)
	b = imsg.AppendString(b, d.User)
	b = appendAddress(b, d.Sender)
	b = appendAddress(b, d.Rcpt)
	b = appendAddress(b, d.Dest)
	return imsg.AppendString(b, d.SubAddress)
}

func parseDelivery(p []byte) (Delivery, error) {
	r := imsg.NewReader(p)
	d := Delivery{
		ID:         envelope.ID(r.Uint64()),
		As:         readAccount(r),
		Method:     Method(r.Byte()),
		Target:     r.String(),
		Junk:       r.Bool(),
		RcptTo:     r.Bool(),
		Wrapper:    r.String(),
		Header:     r.String(),
		User:       r.String(),
		Sender:     readAddress(r),
		Rcpt:       readAddress(r),
		Dest:       readAddress(r),
		SubAddress: r.String(),
	}
	if d.Method < Maildir || d.Method > LMTP {
		r.Fail()
	}
	return d, r.Close()
}

func appendResult(b []byte, s Result) []byte {
	b = append(b, byte(s.Outcome))
	return imsg.AppendString(imsg.AppendString(b, s.Status), s.Text)
}

func parseResult(p []byte) (Result, error) {
	r := imsg.NewReader(p)
	s := Result{Outcome: Outcome(r.Byte()), Status: r.String(), Text: r.String()}
	if s.Outcome < Delivered || s.Outcome > PermFail {
		r.Fail()
	}
	return s, r.Close()
}

func appendForwardReply(b []byte, f forwardReply) []byte {
	return imsg.AppendString(append(b, byte(f.State)), f.Text)
}

func parseForwardReply(p []byte) (forwardReply, error) {
	r := imsg.NewReader(p)
	f := forwardReply{State: forwardState(r.Byte()), Text: r.String()}
	if f.State < forwardNone || f.State > forwardPerm {
		r.Fail()
	}
	return f, r.Close()
}

// A login is the name of an account and what is said to be its password.
type login struct{ User, Password string }

func (l login) append(b []byte) []byte {
	return imsg.AppendString(imsg.AppendString(b, l.User), l.Password)
}

func (l *login) parse(b []byte) error {
	r := imsg.NewReader(b)
	l.User, l.Password = r.String(), r.String()
	return r.Close()
}
