package crypto

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"

	"smtpd/runtime/imsg"
)

// Requests that crypto answers.
const (
	typeSign uint32 = iota + 1
	typeDecrypt
)

// A keyID names a key: the hash of its public half in the form that
// certificates have it in.
type keyID [sha256.Size]byte

// idOf returns the keyID of the key whose public half pub is.
func idOf(pub crypto.PublicKey) (keyID, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	return sha256.Sum256(der), err
}

// A padding is what is done with a digest before it meets the key.
type padding uint8

const (
	padPKCS1   padding = iota + 1 // RSASSA-PKCS1-v1_5
	padPSS                        // RSASSA-PSS, the salt as long as the digest
	padECDSA                      // nothing
	padEd25519                    // no digest: the key hashes by itself
)

// hashes are those that TLS 1.0 to 1.3 use with each padding.
var hashes = map[padding][]crypto.Hash{
	padPKCS1:   {crypto.MD5SHA1, crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512},
	padPSS:     {crypto.SHA256, crypto.SHA384, crypto.SHA512},
	padECDSA:   {crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512},
	padEd25519: {0},
}

// maxText bounds what Ed25519 signs: a whole handshake of TLS 1.2, with the
// certificates of both sides.
const maxText = 128 << 10

// A signRequest asks for a signature. Text is a digest of Hash or, for
// Ed25519, what is signed.
type signRequest struct {
	Key     keyID
	Padding padding
	Hash    crypto.Hash
	Text    []byte
}

func (q *signRequest) append(b []byte) []byte {
	b = append(b, q.Key[:]...)
	b = append(b, byte(q.Padding), byte(q.Hash))
	return imsg.AppendBytes(b, q.Text)
}

// parse refuses what no handshake asks for.
func (q *signRequest) parse(p []byte) error {
	r := imsg.NewReader(p)
	q.Key = readID(r)
	q.Padding, q.Hash = padding(r.Byte()), crypto.Hash(r.Byte())
	q.Text = r.Bytes()
	if !q.wellFormed() {
		r.Fail()
	}
	return r.Close()
}

func (q *signRequest) wellFormed() bool {
	for _, h := range hashes[q.Padding] {
		if h == q.Hash {
			return h == 0 && len(q.Text) <= maxText || h != 0 && len(q.Text) == h.Size()
		}
	}
	return false
}

// A decryptRequest asks for the secret of an RSA key exchange.
type decryptRequest struct {
	Key    keyID
	Secret []byte // as the client sent it
}

// secretSize is the length of the secret (RFC 5246, section 8.1.1), and
// maxSecret that of the largest one encrypted: crypto/tls takes no larger key.
const (
	secretSize = 48
	maxSecret  = 8192 / 8
)

func (q *decryptRequest) append(b []byte) []byte {
	return imsg.AppendBytes(append(b, q.Key[:]...), q.Secret)
}

func (q *decryptRequest) parse(p []byte) error {
	r := imsg.NewReader(p)
	q.Key = readID(r)
	q.Secret = r.Bytes()
	if len(q.Secret) > maxSecret {
		r.Fail()
	}
	return r.Close()
}

func readID(r *imsg.Reader) (id keyID) {
	for i := range id {
		id[i] = r.Byte()
	}
	return id
}
