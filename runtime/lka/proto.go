package lka

import (
	"net/netip"
	"slices"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/imsg"
)

// The requests.
const (
	msgLookup uint32 = iota + 1
	msgCheck
	msgFetch
	msgUserInfo
	msgInclude
	msgMX
	msgAddrs
	msgPTR
	msgUpdate
	msgSnapshot
	msgChange // from lka to mfa
	msgTXT
	msgTLSA
	msgSTS
	msgLogin // see auth.go
	msgProbe // see probe.go
)

// A UserInfo is the account that a name stands for.
type UserInfo struct {
	Name     string
	UID, GID uint32
	Home     string
}

// An MX is a host that takes the mail of a domain, with its addresses.
type MX struct {
	Host  string // without trailing dot; an address literal keeps its brackets
	Pref  uint16
	Addrs []netip.Addr

	// Secure is set if DNSSEC vouches for all that led here: the record that
	// names Host, or that there is none, and both kinds of addresses. Only then
	// do TLSA records of the host mean anything (RFC 7672, section 2.2).
	Secure bool

	// Canonical is the name that CNAME records of Host lead to, "" if there
	// are none. Its TLSA records come before those of Host (RFC 7672, section
	// 2.2.3).
	Canonical string
}

// A TLSA is a record that says which certificates a service has (RFC 6698,
// section 2.1).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// FCrDNS says whether the reverse name of an address leads back to it.
type FCrDNS uint8

// The results of the forward check.
const (
	Pass FCrDNS = iota + 1
	Fail
	Error // it could not be done
)

var fcrdnsNames = [...]string{"?", "pass", "fail", "error"}

// String returns the word that filters are told.
func (f FCrDNS) String() string {
	if int(f) < len(fcrdnsNames) {
		return fcrdnsNames[f]
	}
	return fcrdnsNames[0]
}

// A DNSError says why a name has no usable answer. Its Text is what reports
// and logs show.
type DNSError struct {
	Text      string
	Permanent bool
}

func (e *DNSError) Error() string { return e.Text }

// A tableQuery asks a table. Fetch and Update leave Key empty; UserInfo
// and Update leave Service 0.
type tableQuery struct {
	Table   compile.TableID
	Service engine.Service
	Key     string
}

func (q tableQuery) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(q.Table))
	b = imsg.AppendUint32(b, uint32(q.Service))
	return imsg.AppendString(b, q.Key)
}

func (q *tableQuery) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Table = compile.TableID(r.Uint32())
	service := r.Uint32()
	if service > 0xffff {
		r.Fail()
	}
	q.Service = engine.Service(service)
	q.Key = r.String()
	return r.Close()
}

// A nameQuery asks for a domain, a host or an include file.
type nameQuery struct{ Name string }

func (q nameQuery) append(b []byte) []byte { return imsg.AppendString(b, q.Name) }

func (q *nameQuery) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Name = r.String()
	return r.Close()
}

// An addrQuery asks for the name of an address.
type addrQuery struct{ Addr netip.Addr }

func (q addrQuery) append(b []byte) []byte { return appendAddr(b, q.Addr) }

func (q *addrQuery) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Addr = readAddr(r)
	return r.Close()
}

// A valueAnswer says whether a key was found, and what it maps to.
type valueAnswer struct {
	Found bool
	Value string
}

func (a valueAnswer) append(b []byte) []byte {
	return imsg.AppendString(imsg.AppendBool(b, a.Found), a.Value)
}

func (a *valueAnswer) parse(b []byte) error {
	r := imsg.NewReader(b)
	a.Found = r.Bool()
	a.Value = r.String()
	return r.Close()
}

// A userAnswer says whether a user was found, and who it is.
type userAnswer struct {
	Found bool
	User  UserInfo
}

func (a userAnswer) append(b []byte) []byte {
	b = imsg.AppendBool(b, a.Found)
	b = imsg.AppendString(b, a.User.Name)
	b = imsg.AppendUint32(b, a.User.UID)
	b = imsg.AppendUint32(b, a.User.GID)
	return imsg.AppendString(b, a.User.Home)
}

func (a *userAnswer) parse(b []byte) error {
	r := imsg.NewReader(b)
	a.Found = r.Bool()
	a.User = UserInfo{Name: r.String(), UID: r.Uint32(), GID: r.Uint32(), Home: r.String()}
	return r.Close()
}

// An mxAnswer holds the hosts of a domain, or why there are none.
type mxAnswer struct {
	Err *DNSError
	MX  []MX
}

func (a mxAnswer) append(b []byte) []byte {
	b = appendDNSError(b, a.Err)
	b = imsg.AppendUint32(b, uint32(len(a.MX)))
	for _, mx := range a.MX {
		b = imsg.AppendString(b, mx.Host)
		b = imsg.AppendUint32(b, uint32(mx.Pref))
		b = appendAddrs(b, mx.Addrs)
		b = imsg.AppendBool(b, mx.Secure)
		b = imsg.AppendString(b, mx.Canonical)
	}
	return b
}

func (a *mxAnswer) parse(b []byte) error {
	r := imsg.NewReader(b)
	a.Err = readDNSError(r)
	a.MX = nil
	for range r.Count(17) {
		mx := MX{Host: r.String()}
		pref := r.Uint32()
		if pref > 0xffff {
			r.Fail()
		}
		mx.Pref = uint16(pref)
		mx.Addrs = readAddrs(r)
		mx.Secure = r.Bool()
		mx.Canonical = r.String()
		a.MX = append(a.MX, mx)
	}
	return r.Close()
}

// A txtAnswer holds the texts of a name, or why they are not known.
type txtAnswer struct {
	Err   *DNSError
	Texts []string
}

func (a txtAnswer) append(b []byte) []byte {
	return imsg.AppendStrings(appendDNSError(b, a.Err), a.Texts)
}

func (a *txtAnswer) parse(b []byte) error {
	r := imsg.NewReader(b)
	a.Err = readDNSError(r)
	a.Texts = r.Strings()
	return r.Close()
}

// A tlsaAnswer holds the TLSA records of a name, or why they are not known.
type tlsaAnswer struct {
	Err    *DNSError
	Secure bool
	TLSA   []TLSA
}

func (a tlsaAnswer) append(b []byte) []byte {
	b = imsg.AppendBool(appendDNSError(b, a.Err), a.Secure)
	b = imsg.AppendUint32(b, uint32(len(a.TLSA)))
	for i := range a.TLSA {
		t := &a.TLSA[i]
		b = append(b, t.Usage, t.Selector, t.Matching)
		b = imsg.AppendBytes(b, t.Data)
	}
	return b
}

func (a *tlsaAnswer) parse(b []byte) error {
	r := imsg.NewReader(b)
	a.Err = readDNSError(r)
	a.Secure = r.Bool()
	a.TLSA = nil
	for range r.Count(7) {
		a.TLSA = append(a.TLSA, TLSA{r.Byte(), r.Byte(), r.Byte(), slices.Clone(r.Bytes())})
	}
	return r.Close()
}

// A ptrAnswer holds the name of an address and whether it leads back.
type ptrAnswer struct {
	Err     *DNSError
	Name    string
	Forward FCrDNS
}

func (a ptrAnswer) append(b []byte) []byte {
	b = imsg.AppendString(appendDNSError(b, a.Err), a.Name)
	return append(b, byte(a.Forward))
}

func (a *ptrAnswer) parse(b []byte) error {
	r := imsg.NewReader(b)
	a.Err = readDNSError(r)
	a.Name = r.String()
	a.Forward = FCrDNS(r.Byte())
	if a.Forward < Pass || a.Forward > Error {
		r.Fail()
	}
	return r.Close()
}

// An STS is what is known of the MTA-STS policy of a domain.
type STS struct {
	Found  bool // it has a policy, and not of mode none
	Policy STSPolicy

	// Problem is what kept the policy, or a newer one, from being fetched, in
	// the words of reports (RFC 8460, section 4.3.2.2); "" for nothing.
	Problem string
}

func (a STS) append(b []byte) []byte {
	b = append(imsg.AppendBool(b, a.Found), byte(a.Policy.Mode))
	b = imsg.AppendStrings(b, a.Policy.MX)
	b = imsg.AppendUint32(b, uint32(a.Policy.MaxAge/time.Second))
	return imsg.AppendString(b, a.Problem)
}

func (a *STS) parse(b []byte) error {
	r := imsg.NewReader(b)
	a.Found = r.Bool()
	a.Policy.Mode = STSMode(r.Byte())
	a.Policy.MX = r.Strings()
	a.Policy.MaxAge = time.Duration(r.Uint32()) * time.Second
	a.Problem = r.String()
	if a.Policy.Mode > STSEnforce || a.Found && a.Policy.Mode < STSTesting {
		r.Fail()
	}
	return r.Close()
}

func appendDNSError(b []byte, e *DNSError) []byte {
	if e == nil {
		return imsg.AppendBool(b, false)
	}
	b = imsg.AppendBool(b, true)
	return imsg.AppendBool(imsg.AppendString(b, e.Text), e.Permanent)
}

func readDNSError(r *imsg.Reader) *DNSError {
	if !r.Bool() {
		return nil
	}
	return &DNSError{Text: r.String(), Permanent: r.Bool()}
}

// appendAddr appends the length of an address and its bytes. A zone has no
// place in mail and does not travel.
func appendAddr(b []byte, a netip.Addr) []byte { return imsg.AppendBytes(b, a.AsSlice()) }

func readAddr(r *imsg.Reader) netip.Addr {
	a, ok := netip.AddrFromSlice(r.Bytes())
	if !ok {
		r.Fail()
	}
	return a
}

func appendAddrs(b []byte, addrs []netip.Addr) []byte {
	b = imsg.AppendUint32(b, uint32(len(addrs)))
	for _, a := range addrs {
		b = appendAddr(b, a)
	}
	return b
}

func readAddrs(r *imsg.Reader) []netip.Addr {
	var addrs []netip.Addr
	for range r.Count(8) {
		addrs = append(addrs, readAddr(r))
	}
	return addrs
}
