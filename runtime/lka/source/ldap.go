package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"smtpd/compile/engine"
	"smtpd/compile/tableconf"
	"smtpd/runtime/lka/backend"
)

// maxEntries bounds what is read of an answer.
const maxEntries = 1000

// A directory is a Source that is asked by LDAP. The key is escaped where it
// stands in a filter.
type directory struct {
	table    string
	network  string
	address  string
	tls      *tls.Config // nil: none
	startTLS bool
	user     string
	password string
	base     string
	timeout  time.Duration

	filters    map[engine.Service]string
	attributes map[engine.Service][]string
	pool       *pool[*ldap.Conn]
}

func newLDAP(table string, f *tableconf.File) (backend.Source, error) {
	d := &directory{
		table: table, user: f.Value("username"), password: f.Value("password"), base: f.Value("basedn"), timeout: backend.LimitsOf(f).Timeout,
		filters:    perService(f, func(s string) string { return s + "_filter" }),
		attributes: make(map[engine.Service][]string),
	}
	for s, list := range perService(f, func(s string) string { return s + "_attributes" }) {
		d.attributes[s] = tableconf.List(list)
	}
	for s := range d.filters {
		if _, err := ldap.CompileFilter(d.filter(s, "key")); err != nil {
			return nil, fmt.Errorf("%s_filter: %w", s, err)
		}
	}
	if err := d.parseURL(f.Value("url"), f.Value("ca_file")); err != nil {
		return nil, err
	}
	d.pool = newPool(backend.LimitsOf(f).Connections, d.dial, func(c *ldap.Conn) { c.Close() })
	return d, nil
}

// parseURL takes the address of a server, scheme://host:port. A scheme may be
// missing, a path is of no matter.
func (d *directory) parseURL(text, ca string) error {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "ldap", text
	}
	scheme = strings.ToLower(scheme)
	if scheme == "ldapi" {
		path, err := url.PathUnescape(rest)
		if err != nil || !strings.HasPrefix(path, "/") {
			return fmt.Errorf("url: %q is no path of a socket", rest)
		}
		d.network, d.address = "unix", path
		return nil
	}
	rest, _, _ = strings.Cut(rest, "/")
	host, port, err := net.SplitHostPort(rest)
	if err != nil || port == "" {
		host, port = strings.Trim(strings.TrimSuffix(rest, ":"), "[]"), "389"
		if scheme == "ldaps" {
			port = "636"
		}
	}
	d.network, d.address = "tcp", net.JoinHostPort(host, port)
	if scheme == "ldap" {
		return nil
	}
	d.startTLS = scheme == "ldap+tls"
	d.tls = &tls.Config{ServerName: host}
	if ca == "" {
		return nil
	}
	text2, err := os.ReadFile(ca)
	if err != nil {
		return fmt.Errorf("ca_file: %w", err)
	}
	d.tls.RootCAs = x509.NewCertPool()
	if !d.tls.RootCAs.AppendCertsFromPEM(text2) {
		return fmt.Errorf("ca_file: no certificate in %s", ca)
	}
	return nil
}

// dial connects and says who we are.
func (d *directory) dial(ctx context.Context) (*ldap.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, d.network, d.address)
	if err != nil {
		return nil, err
	}
	direct := d.tls != nil && !d.startTLS
	if direct {
		t := tls.Client(c, d.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, err
		}
		c = t
	}
	conn := ldap.NewConn(c, direct)
	conn.SetTimeout(d.timeout)
	conn.Start()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if d.startTLS {
		err = conn.StartTLS(d.tls)
	}
	if err == nil && d.user != "" {
		err = conn.Bind(d.user, d.password)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// filter returns the filter of a service for a key.
func (d *directory) filter(s engine.Service, key string) string {
	text, err := tableconf.Expand(d.filters[s], func(c byte) (string, bool) {
		if c == 'h' {
			return ldap.EscapeFilter(d.table), true
		}
		return ldap.EscapeFilter(key), true
	})
	if err != nil {
		panic(err) // it was checked when the file was read
	}
	return text
}

// search returns the entries that a key has.
func (d *directory) search(ctx context.Context, s engine.Service, key string, attributes []string, limit int) (entries []*ldap.Entry, err error) {
	if d.filters[s] == "" {
		return nil, backend.ErrService
	}
	if !isText(key) {
		return nil, nil
	}
	r := ldap.NewSearchRequest(d.base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, limit, int(d.timeout/time.Second), false,
		d.filter(s, key), attributes, nil)
	r.EnforceSizeLimit = true
	err = d.pool.use(ctx, func(c *ldap.Conn) (bool, error) {
		result, err := c.Search(r)
		if result != nil {
			entries = result.Entries
		}
		return err == nil || isFull(err) || isResult(err), err
	})
	return entries, err
}

// isResult reports whether an error is the server's answer, and not that of the
// library, which has codes of its own.
func isResult(err error) bool {
	var said *ldap.Error
	return errors.As(err, &said) && said.ResultCode < ldap.ErrorNetwork
}

// isFull reports whether there is more than was asked for.
func isFull(err error) bool {
	return errors.Is(err, ldap.ErrSizeLimitExceeded) || ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded)
}

// noAttributes asks for none (RFC 4511, section 4.5.1.8).
var noAttributes = []string{"1.1"}

func (d *directory) Check(ctx context.Context, s engine.Service, key string) (bool, error) {
	entries, err := d.search(ctx, s, key, noAttributes, 1)
	if isFull(err) && len(entries) > 0 {
		err = nil
	}
	return len(entries) > 0 && err == nil, err
}

// Lookup joins the values of all entries where a service is a list. Else the
// last entry counts that has all attributes.
func (d *directory) Lookup(ctx context.Context, s engine.Service, key string) (string, bool, error) {
	attributes := d.attributes[s]
	entries, err := d.search(ctx, s, key, attributes, maxEntries)
	if isFull(err) {
		err = errTooMuch
	}
	if err != nil {
		return "", false, err
	}
	var rows [][]string
	for _, e := range entries {
		if isList(s) {
			for _, v := range e.GetEqualFoldAttributeValues(attributes[0]) {
				rows = append(rows, []string{v})
			}
			continue
		}
		if row, ok := fields(e, attributes); ok {
			rows = [][]string{row}
		}
	}
	return join(s, rows)
}

// fields returns the first value of each attribute; ok is false if one is
// missing.
func fields(e *ldap.Entry, attributes []string) (row []string, ok bool) {
	for _, a := range attributes {
		values := e.GetEqualFoldAttributeValues(a)
		if len(values) == 0 {
			return nil, false
		}
		row = append(row, values[0])
	}
	return row, true
}

func (d *directory) Update(ctx context.Context) error {
	d.pool.drop()
	return d.pool.use(ctx, func(c *ldap.Conn) (bool, error) { return !c.IsClosing(), nil })
}

func (d *directory) Close() { d.pool.drop() }
