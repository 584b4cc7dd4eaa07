package lka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// A fetcher gets policy files from the hosts of domains.
type fetcher struct {
	addrs func(ctx context.Context, host string) []netip.Addr
	port  uint16
	roots *x509.CertPool // nil: the system's
}

func newFetcher(d *directory) *fetcher {
	return &fetcher{port: 443, addrs: func(ctx context.Context, host string) []netip.Addr {
		h, _ := d.find(ctx, host)
		return h.Addrs
	}}
}

// fetch returns the policy file of domain. If there is none the problem is why,
// in the words of reports.
//
// What the host says is believed only from TLS with a valid certificate, of
// itself and not from where it sends us (RFC 8461, section 3.3).
func (f *fetcher) fetch(ctx context.Context, domain string) (text, problem string, err error) {
	t := &http.Transport{
		DialContext:            f.dial,
		TLSClientConfig:        &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: 16 << 10,
		DisableKeepAlives:      true,
	}
	client := http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return "", problemFetch, err
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.As(err, new(*tls.CertificateVerificationError)) {
			return "", problemWebPKI, err
		}
		return "", problemFetch, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", problemFetch, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return "", problemInvalid, fmt.Errorf("media type %.40q", resp.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPolicySize+1))
	switch {
	case err != nil:
		return "", problemFetch, err
	case len(body) > maxPolicySize:
		return "", problemInvalid, errors.New("the policy is too long")
	}
	return string(body), "", nil
}

// dial connects to a host that the resolver of mail finds.
func (f *fetcher) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	err = fmt.Errorf("%s has no address", host)
	for _, addr := range f.addrs(ctx, strings.ToLower(host)) {
		c, derr := d.DialContext(ctx, network, netip.AddrPortFrom(addr, f.port).String())
		if derr == nil {
			return c, nil
		}
		err = derr
	}
	return nil, err
}
