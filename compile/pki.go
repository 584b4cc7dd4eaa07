package compile

import (
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"smtpd/ast"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// hostLike checks the name of a pki or ca and returns it as it is stored.
func (c *compiler) hostLike(name *ast.Str, what string) (string, bool) {
	if !isHostName(name.Text) {
		d := c.errorf(span(name), name.Pos, "bad-"+diag.Code(what)+"-name", "%s: %q is no host name", what, name.Text)
		if strings.HasPrefix(name.Text, "*.") {
			d.Help = append(d.Help, `"*" alone stands for every name`)
		}
		return "", false
	}
	if len(name.Text) > maxHostName {
		c.tooLong(name, "name of a "+what, maxHostName)
		return "", false
	}
	return tablefile.Fold(name.Text), true
}

// pkiStmt declares a certificate or adds to one.
func (c *compiler) pkiStmt(p *ast.PKI) {
	name, ok := c.hostLike(&p.Name, "pki")
	if !ok {
		c.pki.spoil(p.Name.Text)
		return
	}
	if c.broken {
		for _, o := range p.Options {
			c.pkiOption(new(PKI), o)
		}
		return
	}
	old, known := c.pki.names[name]
	i := old.id
	if !known || old.wrong {
		i = len(c.rs.PKI)
		c.rs.PKI = append(c.rs.PKI, PKI{Name: name, Origin: c.here()})
		c.pki.names[name] = decl[int]{id: i, at: &p.Name}
	}
	for _, o := range p.Options {
		c.pkiOption(&c.rs.PKI[i], o)
	}
}

func (c *compiler) pkiOption(p *PKI, o *ast.PKIOption) {
	switch {
	case o.Cert != nil:
		p.Cert = o.Cert.Text
	case o.Key != nil:
		p.Key = o.Key.Text
	case o.DHE != nil:
		switch dhe := tablefile.Fold(o.DHE.Text); dhe {
		case "none", "auto", "legacy":
			p.DHE = dhe
		default:
			c.errorf(span(o.DHE), o.DHE.Pos, "bad-dhe", "pki dhe: %q is no way to choose parameters", o.DHE.Text).Label =
				"expected none, auto or legacy"
		}
	}
}

// caStmt declares an authority file, or another file for one.
func (c *compiler) caStmt(a *ast.CA) {
	name, ok := c.hostLike(&a.Name, "ca")
	if !ok {
		c.ca.spoil(a.Name.Text)
		return
	}
	if c.broken {
		return
	}
	ca := CA{Name: name, Cert: a.Cert.Text, Origin: c.here()}
	if old, known := c.ca.names[name]; known && !old.wrong {
		c.rs.CA[old.id] = ca
		return
	}
	c.ca.names[name] = decl[int]{id: len(c.rs.CA), at: &a.Name}
	c.rs.CA = append(c.rs.CA, ca)
}

// checkRelays warns of relay actions that name a pki or ca which is not
// declared. OpenSMTPD looks them up, as they are spelled, when it starts.
func (c *compiler) checkRelays() {
	for i := range c.rs.Actions {
		a := &c.rs.Actions[i]
		if a.Relay.PKI != "" && !slices.ContainsFunc(c.rs.PKI, func(p PKI) bool { return p.Name == a.Relay.PKI }) {
			c.relayNames(a, "pki", a.Relay.PKI)
		}
		if a.Relay.CA != "" && !slices.ContainsFunc(c.rs.CA, func(x CA) bool { return x.Name == a.Relay.CA }) {
			c.relayNames(a, "ca", a.Relay.CA)
		}
	}
}

// relayNames warns of one name. It is a warning because the check of
// OpenSMTPD lets it pass.
func (c *compiler) relayNames(a *Action, what, name string) {
	at := token.Pos{Filename: a.Origin.File, Line: a.Origin.Line, Column: a.Origin.Column}
	d := c.diags.Reportf(diag.Warning, token.At(at), "relay-without-"+diag.Code(what), "action %q names %s %q, which is not declared: the server will not start", a.Name, what, name)
	if folded := tablefile.Fold(name); folded != name {
		d.Help = append(d.Help, "the names of "+what+" are kept in lower case")
	}
}

// loadCertificates checks that what the certificates name can be loaded, in
// the order of OpenSMTPD: certificates, authorities, keys, each by name.
func (c *compiler) loadCertificates() {
	pkis := c.sortedPKI()
	for _, p := range pkis {
		at := span(c.pki.names[p.Name].at)
		switch {
		case p.Cert == "":
			c.fatalf(at, "pki-incomplete", "pki %q has no certificate", p.Name)
		case p.Key == "":
			c.fatalf(at, "pki-incomplete", "pki %q has no key", p.Name)
		default:
			c.load(c.host.ReadFile, p.Cert, at, "pki-file", fmt.Sprintf("certificate of pki %q", p.Name), 0o755)
		}
	}
	cas := slices.Clone(c.rs.CA)
	slices.SortFunc(cas, func(a, b CA) int { return strings.Compare(a.Name, b.Name) })
	for _, a := range cas {
		c.load(c.host.ReadFile, a.Cert, span(c.ca.names[a.Name].at), "ca-file", fmt.Sprintf("file of ca %q", a.Name), 0o755)
	}
	keys, sealed := c.host.(KeyHost)
	read := c.host.ReadFile
	if sealed {
		read = keys.StatKey
	}
	for _, p := range pkis {
		if p.Key == "" {
			continue
		}
		at := span(c.pki.names[p.Name].at)
		what := fmt.Sprintf("key of pki %q", p.Name)
		if data, ok := c.load(read, p.Key, at, "pki-file", what, 0o740); ok && !sealed {
			if problem := keyProblem(data); problem != "" {
				c.lacks(at, "pki-file", "%s: %s holds %s", what, p.Key, problem).Fatal = true
			}
		}
	}
}

func (c *compiler) sortedPKI() []PKI {
	list := slices.Clone(c.rs.PKI)
	slices.SortFunc(list, func(a, b PKI) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// fatalf reports a mistake at which OpenSMTPD ends without naming a place.
func (c *compiler) fatalf(at token.Span, code diag.Code, format string, args ...any) *diag.Diagnostic {
	d := c.errorf(at, at.Start, code, format, args...)
	d.Fatal = true
	return d
}

// load reads a file that must belong to root and have no permission bits
// beyond most.
func (c *compiler) load(read func(string) (File, error), path string, at token.Span, code diag.Code, what string, most uint32) ([]byte, bool) {
	f, err := read(path)
	unread := errors.Is(err, ErrContent)
	var d *diag.Diagnostic
	switch {
	case err != nil && !unread:
		d = c.lacks(at, code, "%s %s", what, fileProblem(path, err))
	case f.UID != 0:
		d = c.lacks(at, code, "%s: %s belongs to uid %d, not to root", what, path, f.UID)
	case f.Mode&^most != 0:
		d = c.lacks(at, code, "%s: %s has mode %04o, at most %04o is safe", what, path, f.Mode, most)
	default:
		return f.Data, !unread
	}
	d.Fatal = true
	return nil, false
}

// keyTypes are the PEM types of private keys.
var keyTypes = []string{"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"}

// keyProblem returns what a file holds that is no good as a private key, ""
// if the first key in it is. Of one in PEM form only the frame is examined:
// whether it belongs to the certificate is seen when the server starts.
func keyProblem(data []byte) string {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case !slices.Contains(keyTypes, block.Type):
			continue // such as EC PARAMETERS, or a certificate
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return "a private key behind a passphrase, which nobody could type when the server starts"
		case !isVersioned(block.Bytes):
			return "a private key that is damaged"
		}
		return ""
	}
	return "no private key in PEM form"
}

// isVersioned reports whether der is one sequence that begins with a version,
// as every form of a private key does.
func isVersioned(der []byte) bool {
	var key asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &key); err != nil || len(rest) > 0 || key.Tag != asn1.TagSequence {
		return false
	}
	var version int
	_, err := asn1.Unmarshal(key.Bytes, &version)
	return err == nil
}
