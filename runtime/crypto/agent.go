package crypto

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"smtpd/runtime/imsg"
)

// A Config says which keys there are and who asks.
type Config struct {
	Keys []Key
	Log  *slog.Logger

	Ready func() // called when the keys are read; may be nil

	SMTP, MTA imsg.Conn
}

// Main reads the keys and answers until ctx is done or a peer is lost.
func Main(ctx context.Context, c Config) error {
	a, err := newAgent(c)
	if err != nil {
		return err
	}
	if c.Ready != nil {
		c.Ready()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for who, conn := range map[user]imsg.Conn{smtp: c.SMTP, mta: c.MTA} {
		wg.Go(func() {
			defer cancel() // a component without crypto is of no use, and starts anew
			if err := imsg.NewPeer(conn, a.serve(who)).Run(ctx); err != nil {
				errs <- fmt.Errorf("crypto: link to %s: %w", who, err)
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// A user is a component that asks.
type user uint8

const (
	smtp user = iota + 1
	mta
)

func (u user) String() string { return [...]string{smtp: "smtp", mta: "mta"}[u] }

// An agent holds the keys.
type agent struct {
	log  *slog.Logger
	keys map[user]map[keyID]crypto.Signer
}

func newAgent(c Config) (*agent, error) {
	a := &agent{log: c.Log, keys: map[user]map[keyID]crypto.Signer{smtp: {}, mta: {}}}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	for i := range c.Keys {
		if err := a.add(&c.Keys[i]); err != nil {
			return nil, fmt.Errorf("key of pki %s: %w", c.Keys[i].Name, err)
		}
	}
	return a, nil
}

func (a *agent) add(k *Key) error {
	private, err := k.load()
	if err != nil {
		return err
	}
	id, err := idOf(k.Public)
	if err != nil {
		return err
	}
	if k.Server {
		a.keys[smtp][id] = private
	}
	if k.Client {
		a.keys[mta][id] = private
	}
	return nil
}

// serve answers one component.
func (a *agent) serve(who user) imsg.Handler {
	return func(_ context.Context, m imsg.Message) (imsg.Message, error) {
		if m.File != nil {
			m.File.Close()
		}
		data, err := a.answer(who, m)
		if err != nil {
			a.log.Warn("crypto: refused", "peer", who.String(), "error", err)
		}
		return imsg.Message{Data: data}, err
	}
}

func (a *agent) answer(who user, m imsg.Message) ([]byte, error) {
	switch m.Type {
	case typeSign:
		return a.sign(who, m.Data)
	case typeDecrypt:
		return a.decrypt(who, m.Data)
	}
	return nil, fmt.Errorf("no requests of type %d here", m.Type)
}

// errNoKey answers for a key that is not there and for one that is another's
// to use: which of the two is not the asker's to know.
var errNoKey = errors.New("no such key")

var errForm = errors.New("not what a TLS handshake signs")

func (a *agent) sign(who user, data []byte) ([]byte, error) {
	var q signRequest
	if err := q.parse(data); err != nil {
		return nil, err
	}
	private, ok := a.keys[who][q.Key]
	if !ok {
		return nil, errNoKey
	}
	switch private := private.(type) {
	case *rsa.PrivateKey:
		return signRSA(private, &q)
	case *ecdsa.PrivateKey:
		if q.Padding == padECDSA {
			return private.Sign(rand.Reader, q.Text, q.Hash)
		}
	case ed25519.PrivateKey:
		if q.Padding == padEd25519 && (who == smtp && serverText(q.Text) || who == mta && clientText(q.Text)) {
			return private.Sign(nil, q.Text, q.Hash)
		}
	}
	return nil, errForm
}

func signRSA(private *rsa.PrivateKey, q *signRequest) ([]byte, error) {
	switch q.Padding {
	case padPKCS1:
		return rsa.SignPKCS1v15(nil, private, q.Hash, q.Text)
	case padPSS:
		return rsa.SignPSS(rand.Reader, private, q.Hash, q.Text, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	return nil, errForm
}

// decrypt returns the secret of a key exchange: a random one if it was
// malformed, in the same time.
func (a *agent) decrypt(who user, data []byte) ([]byte, error) {
	var q decryptRequest
	if err := q.parse(data); err != nil {
		return nil, err
	}
	private, ok := a.keys[who][q.Key].(*rsa.PrivateKey)
	if !ok || who != smtp {
		return nil, errNoKey
	}
	//lint:ignore SA1019 the key exchange is of TLS 1.2, and only done if the configuration asks for it
	return private.Decrypt(rand.Reader, q.Secret, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: secretSize})
}
