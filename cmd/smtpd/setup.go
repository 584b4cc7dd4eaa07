package main

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"

	"smtpd/compile"
	"smtpd/runtime/crypto"
	"smtpd/runtime/imsg"
	"smtpd/runtime/mfa"
)

// A setup is what a component that runs as a process is told before it
// starts, besides descriptors. It is made anew for each start.
type setup struct {
	Level slog.Level // of the log
	Form  logForm

	Rules    []byte   // the part of the Ruleset that it keeps, encoded
	Paused   []string // as -P has it
	User     string   // runs the commands of aliases
	Program  string   // path of this one, which wrappers start
	QueueKey string
	Resolver string
	Libexec  []string
	Suffix   string // of the names of the components that are not there to stay

	RuleNames []mfa.RuleName

	Certs []certificate
	Roots []authority
}

// A certificate is a chain of the configuration. Its private key is crypto's.
type certificate struct {
	Name           string
	PEM            []byte
	Server, Client bool // smtp uses it, mta uses it
}

// An authority is a file of certificates that others are judged by.
type authority struct {
	Name string
	PEM  []byte
}

func (s *setup) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(s.Level))
	for _, is := range [...]bool{s.Form.JSON, s.Form.Tagged, s.Form.Journal} {
		b = imsg.AppendBool(b, is)
	}
	b = imsg.AppendBytes(b, s.Rules)
	b = imsg.AppendStrings(b, s.Paused)
	b = imsg.AppendString(imsg.AppendString(b, s.User), s.Program)
	b = imsg.AppendString(b, s.QueueKey)
	b = imsg.AppendString(b, s.Resolver)
	b = imsg.AppendString(imsg.AppendStrings(b, s.Libexec), s.Suffix)
	b = imsg.AppendUint32(b, uint32(len(s.RuleNames)))
	for _, n := range s.RuleNames {
		b = imsg.AppendString(imsg.AppendString(b, n.Label), n.Text)
	}
	b = imsg.AppendUint32(b, uint32(len(s.Certs)))
	for _, c := range s.Certs {
		b = imsg.AppendBytes(imsg.AppendString(b, c.Name), c.PEM)
		b = imsg.AppendBool(imsg.AppendBool(b, c.Server), c.Client)
	}
	b = imsg.AppendUint32(b, uint32(len(s.Roots)))
	for _, a := range s.Roots {
		b = imsg.AppendBytes(imsg.AppendString(b, a.Name), a.PEM)
	}
	return b
}

func (s *setup) parse(b []byte) error {
	r := imsg.NewReader(b)
	*s = setup{
		Level: slog.Level(int32(r.Uint32())), Form: logForm{JSON: r.Bool(), Tagged: r.Bool(), Journal: r.Bool()},
		Rules: r.Bytes(), Paused: r.Strings(), User: r.String(), Program: r.String(), QueueKey: r.String(),
		Resolver: r.String(), Libexec: r.Strings(), Suffix: r.String(),
	}
	for range r.Count(8) {
		s.RuleNames = append(s.RuleNames, mfa.RuleName{Label: r.String(), Text: r.String()})
	}
	for range r.Count(10) {
		s.Certs = append(s.Certs, certificate{r.String(), r.Bytes(), r.Bool(), r.Bool()})
	}
	for range r.Count(8) {
		s.Roots = append(s.Roots, authority{r.String(), r.Bytes()})
	}
	return r.Close()
}

// rules returns the part of the Ruleset, nil if there is none.
func (s *setup) rules() (*compile.Ruleset, error) {
	if len(s.Rules) == 0 {
		return nil, nil
	}
	return compile.Decode(s.Rules)
}

// chains returns the certificates that want lets through.
func (s *setup) chains(want func(c *certificate) bool) (map[string]tls.Certificate, error) {
	m := make(map[string]tls.Certificate)
	for i := range s.Certs {
		if c := &s.Certs[i]; want(c) {
			chain, err := crypto.ParseChain(c.PEM)
			if err != nil {
				return nil, err
			}
			m[c.Name] = chain
		}
	}
	return m, nil
}

func (s *setup) pools() map[string]*x509.CertPool {
	m := make(map[string]*x509.CertPool)
	for _, a := range s.Roots {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(a.PEM)
		m[a.Name] = pool
	}
	return m
}
