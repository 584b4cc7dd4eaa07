package parent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"smtpd/compile"
	"smtpd/runtime/imsg"
)

// milterTime is how long a milter may take to answer a call.
const milterTime = 10 * time.Second

// milters are where milters listen, by the names of their filters. Parent calls
// them, and says nothing: mfa, which speaks with them, may call nobody.
type milters map[string]compile.MilterAddr

// handle answers with a connection to the milter that m names.
func (l milters) handle(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	if m.File != nil {
		m.File.Close()
	}
	r := imsg.NewReader(m.Data)
	name, text := r.String(), r.String()
	addr, err := netip.ParseAddr(text)
	if r.Close() != nil || err != nil && text != "" {
		return imsg.Message{}, errors.New("parent: not a call of a milter")
	}
	f, err := l.dial(ctx, name, addr)
	return imsg.Message{File: f}, err
}

// dial connects to a milter. Where its host is a name, addr is what the name
// stands for, which is for mfa to find out; the port is never mfa's to say.
func (l milters) dial(ctx context.Context, name string, addr netip.Addr) (*os.File, error) {
	network, address, ok := l[name].Split()
	if !ok {
		return nil, errors.New("not configured")
	}
	if network == "tcp" {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if literal, err := netip.ParseAddr(host); err == nil {
			addr = literal
		}
		if !addr.IsValid() {
			return nil, fmt.Errorf("no address of %s is known", host)
		}
		address = net.JoinHostPort(addr.String(), port)
	}
	d := net.Dialer{Timeout: milterTime}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	switch c := conn.(type) {
	case *net.TCPConn:
		return c.File()
	case *net.UnixConn:
		return c.File()
	}
	return nil, errors.ErrUnsupported
}

// Milter returns a connection to the milter that the filter called name is;
// the caller closes it. If the configuration has its host by name, addr is an
// address of that.
func (c *Client) Milter(ctx context.Context, name string, addr netip.Addr) (*os.File, error) {
	text := ""
	if addr.IsValid() {
		text = addr.String()
	}
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeMilter, Data: imsg.AppendString(imsg.AppendString(nil, name), text)})
	if err == nil && m.File == nil {
		err = errors.New("parent answered without a descriptor")
	}
	return m.File, err
}
