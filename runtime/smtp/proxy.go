package smtp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"

	"smtpd/compile/engine"
)

// takeProxyHeader reads who the client is from the PROXY header that begins
// the connection. Without a good one the session ends without a word.
func (s *session) takeProxyHeader() bool {
	var claimed netip.Addr
	err := s.mayProxy()
	if err == nil {
		claimed, err = readProxyHeader(s.conn)
	}
	if err == nil && claimed.IsLoopback() && !s.addr.IsLoopback() {
		// Rules trust this host; nobody becomes it by saying so from another.
		err = errors.New("protocol error (loopback address from another host)")
	}
	if err != nil {
		s.log("proxy", slog.String("event", "closed"), slog.String("address", s.addressText()), slog.String("reason", err.Error()))
		s.state, s.reason = closing, "proxy"
		return false
	}
	s.log("smtp", slog.String("event", "proxy"), slog.String("address", s.addressText()))
	if claimed.IsValid() {
		s.addr = claimed
	}
	return true
}

// mayProxy returns why the peer is not one whose header is believed. It is not
// even read then: the listener is for proxies.
func (s *session) mayProxy() error {
	if s.at.proxyFrom == 0 {
		return nil
	}
	ok, err := s.srv.names.Check(s.ctx, s.at.proxyFrom, engine.NetAddr, s.addr.String())
	switch {
	case err != nil:
		return fmt.Errorf("nobody knows whether it is a proxy of ours: %w", err)
	case !ok:
		return errors.New("it is no proxy of ours")
	}
	return nil
}

// proxyPrefix is the length of what precedes the addresses: signature, version
// and command, family, and the length of the rest.
const proxyPrefix = 16

// readProxyHeader reads a header of version 2, and not a byte more: what
// follows may be TLS. The address is not valid if the peer speaks for itself,
// or for a client on its own host.
func readProxyHeader(r io.Reader) (netip.Addr, error) {
	header := make([]byte, proxyPrefix)
	if _, err := io.ReadFull(r, header); err != nil {
		return netip.Addr{}, fmt.Errorf("no header: %w", err)
	}
	if !bytes.HasPrefix(header, proxyproto.SIGV2) {
		return netip.Addr{}, errors.New("protocol error (invalid signature)")
	}
	size := binary.BigEndian.Uint16(header[proxyPrefix-2:])
	if size > proxyproto.MaxV2HeaderSize {
		return netip.Addr{}, fmt.Errorf("protocol error (%d bytes of header)", size)
	}
	header = append(header, make([]byte, size)...)
	if _, err := io.ReadFull(r, header[proxyPrefix:]); err != nil {
		return netip.Addr{}, fmt.Errorf("no header: %w", err)
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(header)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("protocol error (%w)", err)
	}
	return proxiedAddr(h)
}

// proxiedAddr returns the client that h tells of.
func proxiedAddr(h *proxyproto.Header) (netip.Addr, error) {
	switch {
	case h.Command.IsLocal(), h.TransportProtocol == proxyproto.UnixStream:
		return netip.Addr{}, nil
	case h.TransportProtocol == proxyproto.TCPv4, h.TransportProtocol == proxyproto.TCPv6:
		if a, ok := h.SourceAddr.(*net.TCPAddr); ok {
			return a.AddrPort().Addr().Unmap().WithZone(""), nil
		}
	}
	return netip.Addr{}, errors.New("protocol error (not a stream)")
}
