package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/alecthomas/kong"
	"github.com/miekg/dns"

	"smtpd/compile/oshost"
)

// A quickstart is what `smtpd quickstart` is told, and what it makes of it.
type quickstart struct {
	Domain   string `arg:"" help:"Whose mail this host takes."`
	Hostname string `help:"Name of this host in the DNS (default mail.DOMAIN)." placeholder:"NAME"`
	Etc      string `help:"Where configuration is kept." default:"/etc" placeholder:"DIR"`
	Force    bool   `help:"Replace a configuration, and keep it as smtpd.conf.old."`

	Cert string `kong:"-"`
	Key  string `kong:"-"`
	IPv6 bool   `kong:"-"`
}

// runQuickstart is the command quickstart; it returns the exit status.
func runQuickstart(args []string, stdout, stderr io.Writer) int {
	q := new(quickstart)
	p, err := kong.New(q, kong.Name("smtpd quickstart"), kong.Writers(stdout, stderr),
		kong.Description("Write a configuration for a domain, with a certificate, and say what belongs into the DNS."))
	if err == nil {
		_, err = p.Parse(args)
	}
	if err == nil {
		err = q.run(stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "smtpd quickstart: %v\n", err)
		return 1
	}
	return 0
}

// run writes what is not there yet, and prints what is left to be done.
func (q *quickstart) run(out io.Writer) error {
	if err := q.complete(); err != nil {
		return err
	}
	conf := filepath.Join(q.Etc, "smtpd.conf")
	if _, err := os.Lstat(conf); err == nil {
		if !q.Force {
			return fmt.Errorf("%s is there already: --force replaces it, and keeps it as smtpd.conf.old", conf)
		}
		if err := os.Rename(conf, conf+".old"); err != nil {
			return err
		}
	}
	for _, dir := range []string{filepath.Dir(q.Cert), filepath.Join(q.Etc, "mail")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	pin, err := q.certificate()
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := quickConfig.Execute(&text, q); err != nil {
		return err
	}
	if err := writeNew(conf, text.String(), 0o644); err != nil {
		return err
	}
	err = writeNew(filepath.Join(q.Etc, "mail", "aliases"), quickAliases, 0o644)
	if err != nil && !errors.Is(err, fs.ErrExist) { // who has aliases keeps them
		return err
	}
	if _, err := load(conf, nil, oshost.Sealed{Host: oshost.New()}, out); err != nil {
		return err
	}
	return quickSteps.Execute(out, map[string]any{"Q": q, "Pin": pin, "Addrs": publicAddrs(), "Conf": conf})
}

// complete checks names and fills in what follows from them.
func (q *quickstart) complete() error {
	q.Domain = strings.ToLower(strings.TrimSuffix(q.Domain, "."))
	if q.Hostname == "" {
		q.Hostname = "mail." + q.Domain
	}
	q.Hostname = strings.ToLower(strings.TrimSuffix(q.Hostname, "."))
	for _, name := range []string{q.Domain, q.Hostname} {
		if !isHostName(name) {
			return fmt.Errorf("%q is no name of a domain: write it as the DNS has it, in ASCII", name)
		}
	}
	etc, err := filepath.Abs(q.Etc)
	if err != nil {
		return err
	}
	if strings.ContainsAny(etc, "\"\\\n") {
		return fmt.Errorf("%q cannot be written into a configuration", etc)
	}
	q.Etc = etc
	q.Cert = filepath.Join(etc, "smtpd", q.Hostname+".crt")
	q.Key = filepath.Join(etc, "smtpd", q.Hostname+".key")
	if ln, err := net.Listen("tcp6", "[::]:0"); err == nil {
		ln.Close()
		q.IPv6 = true
	}
	return nil
}

// isHostName reports whether s is the name of a host with at least two labels
// (RFC 1123, section 2.1).
func isHostName(s string) bool {
	if _, ok := dns.IsDomainName(s); !ok || dns.CountLabel(s) < 2 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// certificateLife is how long a certificate is good that nobody but this host
// has signed. Senders that look at it compare the key with the DNS.
const certificateLife = 10 * 365 * 24 * time.Hour

// certificate makes a key and a certificate, unless they are there, and returns
// what a TLSA record says of the key (RFC 7671, section 5.1: DANE-EE, SPKI).
func (q *quickstart) certificate() (pin string, err error) {
	if text, err := os.ReadFile(q.Cert); err == nil {
		block, _ := pem.Decode(text)
		if block == nil {
			return "", fmt.Errorf("%s holds no certificate", q.Cert)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", fmt.Errorf("%s: %w", q.Cert, err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(c.RawSubjectPublicKeyInfo)), nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return "", err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: q.Hostname}, DNSNames: []string{q.Hostname},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", err
	}
	err = errors.Join(
		writeNew(q.Key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600),
		writeNew(q.Cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})), 0o644),
	)
	return fmt.Sprintf("%x", sha256.Sum256(public)), err
}

// writeNew writes a file that must not be there.
func writeNew(path, text string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// A dnsAddr is an address of this host as a record has it.
type dnsAddr struct{ Type, Addr string }

// publicAddrs returns the addresses of this host that others can reach.
func publicAddrs() []dnsAddr {
	var all []dnsAddr
	ifaces, _ := net.InterfaceAddrs()
	for _, a := range ifaces {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() || n.IP.IsPrivate() {
			continue
		}
		if n.IP.To4() != nil {
			all = append(all, dnsAddr{"A", n.IP.String()})
		} else {
			all = append(all, dnsAddr{"AAAA", n.IP.String()})
		}
	}
	if len(all) == 0 {
		all = append(all, dnsAddr{"A", "<the public address of this host>"})
	}
	return all
}

const quickAliases = `# Who gets the mail of accounts that nobody reads: aliases(5).
MAILER-DAEMON: postmaster
postmaster: root
abuse: root
hostmaster: root
webmaster: root

# Name a person here.
# root: you
`

var quickConfig = template.Must(template.New("smtpd.conf").Parse(`# Written by smtpd quickstart for {{.Domain}}: smtpd.conf(5).

pki {{.Hostname}} cert "{{.Cert}}"
pki {{.Hostname}} key "{{.Key}}"

table aliases file:{{.Etc}}/mail/aliases

# Other servers come to port 25. Users of this domain send by 465 or 587, with
# the password of their account on this host.
listen on socket
listen on 0.0.0.0 port 25 tls pki {{.Hostname}} hostname {{.Hostname}}
listen on 0.0.0.0 port 465 smtps auth pki {{.Hostname}} hostname {{.Hostname}}
listen on 0.0.0.0 port 587 tls-require auth pki {{.Hostname}} hostname {{.Hostname}}
{{- if .IPv6}}
listen on :: port 25 tls pki {{.Hostname}} hostname {{.Hostname}}
listen on :: port 465 smtps auth pki {{.Hostname}} hostname {{.Hostname}}
listen on :: port 587 tls-require auth pki {{.Hostname}} hostname {{.Hostname}}
{{- end}}

action "local" maildir alias <aliases>
action "out" relay helo {{.Hostname}}

match from any for domain "{{.Domain}}" action "local"
match for local action "local"
match from any auth for any action "out"
match from local for any action "out"
`))

var quickSteps = template.Must(template.New("steps").Parse(`{{.Conf}} is written, and in order.

Put these records into the zone of {{.Q.Domain}}:

{{range .Addrs}}{{$.Q.Hostname}}. {{.Type}} {{.Addr}}
{{end -}}
{{.Q.Domain}}. MX 10 {{.Q.Hostname}}.
{{.Q.Domain}}. TXT "v=spf1 mx -all"
_dmarc.{{.Q.Domain}}. TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@{{.Q.Domain}}"
_submissions._tcp.{{.Q.Domain}}. SRV 0 1 465 {{.Q.Hostname}}.
_smtp._tls.{{.Q.Domain}}. TXT "v=TLSRPTv1; rua=mailto:postmaster@{{.Q.Domain}}"

If the zone is signed (DNSSEC), this one too; it lets senders verify the key:

_25._tcp.{{.Q.Hostname}}. TLSA 3 1 1 {{.Pin}}

Ask whoever gave you the address to let it point back (PTR) to {{.Q.Hostname}}.

The certificate is signed by this host alone. Servers take it; programs of users ask
for one of an authority: put it, with its key, in place of
  {{.Q.Cert}}
  {{.Q.Key}}
and run "smtpctl reload".

Say in {{.Q.Etc}}/mail/aliases who reads the mail of root. Then start the service, and
  echo hello | sendmail root
`))
