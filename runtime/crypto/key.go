package crypto

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// A Key is a private key of the configuration, not read yet.
type Key struct {
	Name   string           // of its pki
	Public crypto.PublicKey // of the certificate, which the key must fit
	File   *os.File         // from Open; load closes it

	Server, Client bool // smtp may use it, mta may use it
}

// maxKey is the most that is read of a key file: a key of RSA's largest size
// is a tenth of it.
const maxKey = 128 << 10

// most are the permission bits that a key file may have: its group may read
// it, nobody else.
const most = 0o740

// Open opens the file of a private key, for a process that must not read it.
// It judges the open file, not the path, which could name another one a moment
// later: a regular file that belongs to root and that others cannot touch. What
// is written to the file afterwards does not change what was opened.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hold us up
	if err != nil {
		return nil, err
	}
	held := f
	if err = judge(f); err == nil {
		held, err = freeze(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s %w", path, err)
	}
	if held != f {
		f.Close()
	}
	return held, nil
}

func judge(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file")
	case !ok || st.Uid != 0:
		return fmt.Errorf("belongs to uid %d, not to root", st.Uid)
	case info.Mode().Perm()&^most != 0:
		return fmt.Errorf("has mode %04o, at most %04o is safe", info.Mode().Perm(), most)
	case info.Size() > maxKey:
		return fmt.Errorf("is larger than %d bytes", maxKey)
	}
	return nil
}

// ParseChain returns the certificates in the text of a file, of which the first
// is the server's own. The private key is not in it: see Client.Signer.
func ParseChain(text []byte) (tls.Certificate, error) {
	var c tls.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			c.Certificate = append(c.Certificate, block.Bytes)
		}
	}
	if len(c.Certificate) == 0 {
		return c, errors.New("no certificate in PEM form")
	}
	var err error
	c.Leaf, err = x509.ParseCertificate(c.Certificate[0])
	return c, err
}

// load reads the key from its file and closes that.
func (k *Key) load() (crypto.Signer, error) {
	defer k.File.Close()
	text, err := k.read()
	defer clear(text)
	if err != nil {
		return nil, err
	}
	private, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	if pub, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(k.Public) {
		return nil, errors.New("it does not belong to the certificate")
	}
	return private, nil
}

// read returns the text of the file, from its start: whoever opened it may
// have handed the same descriptor to a crypto that is gone.
func (k *Key) read() ([]byte, error) {
	text := make([]byte, maxKey)
	n, err := k.File.ReadAt(text, 0)
	if err == nil {
		err = fmt.Errorf("its file is larger than %d bytes", maxKey-1)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return text[:n], err
}

// parseKey returns the first private key in text. What it decodes on the way
// it wipes.
func parseKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		defer clear(block.Bytes)
		switch {
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
			continue // such as EC PARAMETERS, or a certificate
		case block.Type == "ENCRYPTED PRIVATE KEY" || bytes.Contains(text, []byte("Proc-Type: 4,ENCRYPTED")):
			return nil, errors.New("it is behind a passphrase, which nobody could type when the server starts: store it without one")
		}
		return parseDER(block.Bytes)
	}
	return nil, errors.New("its file holds no private key in PEM form")
}

// parseDER does not pass on what the parsers say: only that they say it.
func parseDER(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("it is damaged or of a kind that is not known")
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("TLS has no use for a key of type %T", key)
}
