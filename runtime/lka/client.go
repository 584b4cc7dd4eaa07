package lka

import (
	"context"
	"net/netip"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/imsg"
)

// A Client asks the lookup agent. Every error but a *DNSError that says
// Permanent means that the agent could not say: a temporary failure.
type Client struct{ peer *imsg.Peer }

// NewClient returns a Client that asks over p.
func NewClient(p *imsg.Peer) *Client { return &Client{p} }

var _ engine.Lookups = (*Client)(nil)

// An appender is a request, a parser an answer.
type (
	appender interface{ append(b []byte) []byte }
	parser   interface{ parse(b []byte) error }
)

func (c *Client) call(ctx context.Context, typ uint32, q appender, a parser) error {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typ, Data: q.append(nil)})
	if err != nil {
		return err
	}
	if m.File != nil {
		m.File.Close()
	}
	return a.parse(m.Data)
}

// Lookup returns what table t maps key to.
func (c *Client) Lookup(ctx context.Context, t compile.TableID, s engine.Service, key string) (value string, ok bool, err error) {
	var a valueAnswer
	err = c.call(ctx, msgLookup, tableQuery{t, s, key}, &a)
	return a.Value, a.Found, err
}

// Check reports whether table t matches key by the rules of service s.
func (c *Client) Check(ctx context.Context, t compile.TableID, s engine.Service, key string) (bool, error) {
	var a valueAnswer
	err := c.call(ctx, msgCheck, tableQuery{t, s, key}, &a)
	return a.Found, err
}

// Fetch returns the next entry of table t, round and round.
func (c *Client) Fetch(ctx context.Context, t compile.TableID, s engine.Service) (value string, ok bool, err error) {
	var a valueAnswer
	err = c.call(ctx, msgFetch, tableQuery{t, s, ""}, &a)
	return a.Value, a.Found, err
}

// UserInfo returns the account that table t, or the system if t is 0, has
// for name.
func (c *Client) UserInfo(ctx context.Context, t compile.TableID, name string) (UserInfo, bool, error) {
	var a userAnswer
	err := c.call(ctx, msgUserInfo, tableQuery{t, 0, name}, &a)
	return a.User, a.Found, err
}

// UpdateNamed is Update for the table called name.
func (c *Client) UpdateNamed(ctx context.Context, name string) error {
	var a valueAnswer
	return c.call(ctx, msgUpdate, tableQuery{0, 0, name}, &a)
}

// Update has table t read anew. After an error its old content stays.
func (c *Client) Update(ctx context.Context, t compile.TableID) error {
	var a valueAnswer
	return c.call(ctx, msgUpdate, tableQuery{t, 0, ""}, &a)
}

// Include returns the text of a file that an alias includes; ok is false if
// there is none.
func (c *Client) Include(ctx context.Context, path string) (text string, ok bool, err error) {
	var a valueAnswer
	err = c.call(ctx, msgInclude, nameQuery{path}, &a)
	return a.Value, a.Found, err
}

// MX returns the hosts that take mail for domain, best first, each with its
// addresses. The error is a *DNSError if the domain is to blame.
func (c *Client) MX(ctx context.Context, domain string) ([]MX, error) {
	var a mxAnswer
	if err := c.call(ctx, msgMX, nameQuery{domain}, &a); err != nil {
		return nil, err
	}
	return a.MX, asError(a.Err)
}

// Host returns host with its addresses, as an MX of no preference; its
// Secure says that DNSSEC vouches for them. The error is a *DNSError if the
// host is to blame.
func (c *Client) Host(ctx context.Context, host string) (MX, error) {
	var a mxAnswer
	err := c.call(ctx, msgAddrs, nameQuery{host}, &a)
	switch {
	case err != nil:
		return MX{}, err
	case a.Err != nil:
		return MX{}, a.Err
	case len(a.MX) != 1:
		return MX{}, imsg.ErrPayload
	}
	return a.MX[0], nil
}

// Addrs returns the addresses of host, as Host does.
func (c *Client) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	h, err := c.Host(ctx, host)
	return h.Addrs, err
}

// TXT returns the texts of name, the strings of each record put together.
// That there are none is no error: an error, a *DNSError if the name is to
// blame, means that it is not known.
func (c *Client) TXT(ctx context.Context, name string) ([]string, error) {
	var a txtAnswer
	if err := c.call(ctx, msgTXT, nameQuery{name}, &a); err != nil {
		return nil, err
	}
	return a.Texts, asError(a.Err)
}

// TLSA returns the TLSA records of name, as _25._tcp.mx.example.org. Secure
// says that DNSSEC vouches for them, or for there being none; without it
// none are returned, for anyone could have made them. An error, a *DNSError
// if the name is to blame, means that it is not known: what has to do with
// the host must wait (RFC 7672, section 2.1.2).
func (c *Client) TLSA(ctx context.Context, name string) (records []TLSA, secure bool, err error) {
	var a tlsaAnswer
	if err := c.call(ctx, msgTLSA, nameQuery{name}, &a); err != nil {
		return nil, false, err
	}
	return a.TLSA, a.Secure, asError(a.Err)
}

// STS returns what is known of the MTA-STS policy of domain (RFC 8461), which
// may have to be fetched first.
func (c *Client) STS(ctx context.Context, domain string) (STS, error) {
	var a STS
	err := c.call(ctx, msgSTS, nameQuery{domain}, &a)
	return a, err
}

// PTR returns the reverse name of addr, "" if it has none, and whether the
// name leads back to it.
func (c *Client) PTR(ctx context.Context, addr netip.Addr) (name string, forward FCrDNS, err error) {
	a := ptrAnswer{Forward: Error}
	if err := c.call(ctx, msgPTR, addrQuery{addr}, &a); err != nil {
		return "", Error, err
	}
	return a.Name, a.Forward, asError(a.Err)
}

// asError keeps a nil *DNSError from becoming a non-nil error.
func asError(e *DNSError) error {
	if e == nil {
		return nil
	}
	return e
}
