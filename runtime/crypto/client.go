package crypto

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"time"

	"smtpd/runtime/imsg"
)

// A Client is what smtp and mta have of their private keys.
type Client struct{ peer *imsg.Peer }

// NewClient returns a Client that asks over p.
func NewClient(p *imsg.Peer) *Client { return &Client{p} }

// patience bounds one request. A handshake has a deadline of its own, but
// crypto/tls does not pass it on to a signer.
const patience = 10 * time.Second

// Signer returns the private key whose public half pub is, for the pki called
// name. The key need not be there yet: if it is not, or is not this
// component's to use, that is the error of each signature. The signer of an
// RSA key is a crypto.Decrypter too, for the key exchanges of TLS 1.2.
func (c *Client) Signer(name string, pub crypto.PublicKey) crypto.Signer {
	id, err := idOf(pub)
	s := &signer{client: c, name: name, pub: pub, id: id, broken: err}
	if _, ok := pub.(*rsa.PublicKey); ok {
		return &decrypter{s}
	}
	return s
}

// A signer is a private key that is elsewhere.
type signer struct {
	client *Client
	name   string
	pub    crypto.PublicKey
	id     keyID
	broken error // why the key has no id
}

// Public returns the public half.
func (s *signer) Public() crypto.PublicKey { return s.pub }

// Sign has crypto sign a digest. It draws no randomness from here.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	q := signRequest{Key: s.id, Hash: opts.HashFunc(), Text: digest}
	switch s.pub.(type) {
	case *rsa.PublicKey:
		q.Padding = padPKCS1
		if o, ok := opts.(*rsa.PSSOptions); ok {
			if o.SaltLength != rsa.PSSSaltLengthEqualsHash && o.SaltLength != q.Hash.Size() {
				return nil, s.fail("sign", errors.New("a salt that is not as long as the digest"))
			}
			q.Padding = padPSS
		}
	case *ecdsa.PublicKey:
		q.Padding = padECDSA
	case ed25519.PublicKey:
		q.Padding = padEd25519
	}
	if !q.wellFormed() {
		return nil, s.fail("sign", errors.New("not what a TLS handshake signs"))
	}
	return s.ask("sign", typeSign, q.append(nil))
}

func (s *signer) ask(verb string, typ uint32, data []byte) ([]byte, error) {
	if s.broken != nil {
		return nil, s.fail(verb, s.broken)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := s.client.peer.Call(ctx, imsg.Message{Type: typ, Data: data})
	if err != nil {
		return nil, s.fail(verb, err)
	}
	if m.File != nil {
		m.File.Close()
	}
	return m.Data, nil
}

func (s *signer) fail(verb string, err error) error {
	return fmt.Errorf("%s with the key of pki %s: %w", verb, s.name, err)
}

// A decrypter is the signer of an RSA key.
type decrypter struct{ *signer }

// Decrypt has crypto decrypt the secret of a key exchange, and nothing else.
func (d *decrypter) Decrypt(_ io.Reader, secret []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	//lint:ignore SA1019 this is what crypto/tls asks with
	if o, ok := opts.(*rsa.PKCS1v15DecryptOptions); !ok || o.SessionKeyLen != secretSize {
		return nil, d.fail("decrypt", errors.New("not the secret of a TLS handshake"))
	}
	q := decryptRequest{Key: d.id, Secret: secret}
	return d.ask("decrypt", typeDecrypt, q.append(nil))
}
