package rfc5322

import (
	"net/netip"
	"time"
)

// A Received is what the field of that name tells of a message's arrival
// (RFC 5321, section 4.4). Its layout is OpenSMTPD's, byte for byte: tools
// that read logs and headers know it.
type Received struct {
	MaskSrc bool   // say nothing of the client
	Helo    string // what the client calls itself
	RDNS    string // its reverse name; "" is shown as <unknown>
	Source  string // its address, in brackets: see Bracket
	Name    string // of this server
	Proto   string // SMTP, ESMTP, ESMTPS, …
	ID      string // of the message
	TLS     string // "TLSv1.3:cipher:256:NO"; "" for none
	Auth    string // "yes user=u", "yes" or "no"; "" says nothing
	For     string // the only recipient; "" if there are several
	Date    time.Time
}

// Bracket returns the text of an address that Received and the reply to EHLO
// show; the zero Addr stands for the local socket.
func Bracket(a netip.Addr) string {
	if !a.IsValid() {
		return "[local]"
	}
	return "[" + a.String() + "]"
}

// Append appends the field.
func (r *Received) Append(b []byte) []byte {
	b = append(b, "Received: "...)
	if !r.MaskSrc {
		b = append(b, "from "...)
		b = append(b, sanitize(r.Helo)...)
		b = append(b, " ("...)
		b = append(b, sanitize(rdnsText(r.RDNS))...)
		b = append(b, ' ')
		b = append(b, r.Source...)
		b = append(b, ')')
	}
	b = append(b, "\n\tby "...)
	b = append(b, r.Name...)
	b = append(b, " (OpenSMTPD) with "...)
	b = append(b, r.Proto...)
	b = append(b, " id "...)
	b = append(b, r.ID...)
	if r.TLS != "" {
		b = append(b, " ("...)
		b = append(b, r.TLS...)
		b = append(b, ')')
	}
	if r.Auth != "" {
		b = append(b, " auth="...)
		b = append(b, sanitize(r.Auth)...)
	}
	if r.For != "" {
		b = append(b, "\n\tfor <"...)
		b = append(b, r.For...)
		b = append(b, '>')
	}
	b = append(b, ";\n\t"...)
	b = appendDate(b, r.Date)
	return append(b, '\n')
}

func rdnsText(name string) string {
	if name == "" {
		return "<unknown>"
	}
	return name
}

func appendDate(b []byte, t time.Time) []byte {
	return t.AppendFormat(b, "Mon, 2 Jan 2006 15:04:05 -0700 (MST)")
}
