package mta

import (
	"smtpd/runtime/imsg"
)

// msgOrder is the one request that control makes.
const msgOrder uint32 = 1

// A Verb is what the administrator wants of mta.
type Verb uint8

// The verbs. Those that show answer with a text.
const (
	ShowHosts Verb = iota + 1
	ShowHostStats
	ShowRelays
	ShowRoutes
	ShowPaused
	ShowTLSReports // of Domain, or all
	Pause          // mail from Source for Domain
	Resume         // the same
	ResumeRoute    // route Number
)

// An Order is what the administrator wants done or shown.
type Order struct {
	Verb           Verb
	Number         uint32
	Source, Domain string
}

// Append returns b with o as Parse reads it.
func (o Order) Append(b []byte) []byte {
	b = imsg.AppendUint32(append(b, byte(o.Verb)), o.Number)
	return imsg.AppendString(imsg.AppendString(b, o.Source), o.Domain)
}

// Parse reads what Append wrote.
func (o *Order) Parse(b []byte) error {
	r := imsg.NewReader(b)
	*o = Order{Verb: Verb(r.Byte()), Number: r.Uint32(), Source: r.String(), Domain: r.String()}
	if o.Verb < ShowHosts || o.Verb > ResumeRoute {
		r.Fail()
	}
	return r.Close()
}

// An Answer says whether an order changed anything, or what there is to see.
type Answer struct {
	Changed bool
	Text    string
}

func (a Answer) append(b []byte) []byte {
	return imsg.AppendString(imsg.AppendBool(b, a.Changed), a.Text)
}

func (a *Answer) parse(b []byte) error {
	r := imsg.NewReader(b)
	*a = Answer{r.Bool(), r.String()}
	return r.Close()
}
