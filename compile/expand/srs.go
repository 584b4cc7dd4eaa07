package expand

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// An SRSDecoder takes back what sender rewriting made of an address, if we
// made it and it has not aged (runtime.md 5.8).
type SRSDecoder struct {
	keys []string
	days int
}

// NewSRSDecoder returns the decoder for c, nil if sender rewriting is off.
func NewSRSDecoder(c compile.SRS) *SRSDecoder {
	if c.Key == "" {
		return nil
	}
	d := &SRSDecoder{keys: []string{c.Key}, days: int(c.TTL / (24 * time.Hour))}
	if c.Backup != "" {
		d.keys = append(d.keys, c.Backup)
	}
	return d
}

func isSRS(user string) bool {
	user, _ = Unquote(user)
	return len(user) > 5 && user[4] == '=' && (strings.EqualFold(user[:4], "SRS0") || strings.EqualFold(user[:4], "SRS1"))
}

var (
	errSRSForm = errors.New("not an SRS address")
	errSRSHash = errors.New("hash of an SRS address is not ours")
	errSRSAge  = errors.New("SRS address is too old")
)

// Recipient returns what a recipient of mail from the null sender stands for
// if rewriting made it. It is as good as any other address otherwise.
func (d *SRSDecoder) Recipient(a engine.Address, now time.Time) (decoded engine.Address, ok bool, err error) {
	if d == nil || !isSRS(a.User) {
		return a, false, nil
	}
	decoded, err = d.Decode(a, now)
	return decoded, err == nil, err
}

// Decode returns the address that a stands for: the sender for SRS0, the
// SRS0 address of the host that rewrote first for SRS1.
func (d *SRSDecoder) Decode(a engine.Address, now time.Time) (engine.Address, error) {
	user, quoted := Unquote(a.User) // all of it, if any of the sender was
	decoded, err := d.decode(user, a.Domain, now)
	if err == nil && quoted {
		decoded.User = Quote(decoded.User)
	}
	if err == nil && (!isRcptUser(decoded.User) || !IsDomain(decoded.Domain)) {
		err = errSRSForm
	}
	if err != nil {
		return engine.Address{}, err
	}
	return decoded, nil
}

func (d *SRSDecoder) decode(user, domain string, now time.Time) (engine.Address, error) {
	hash, body, ok := strings.Cut(user[len("SRS0="):], "=")
	if !ok {
		return engine.Address{}, errSRSForm
	}
	if !d.verify(hash, body+"@"+domain) {
		return engine.Address{}, errSRSHash
	}
	if strings.EqualFold(user[:4], "SRS0") {
		return d.original(body, now)
	}
	// SRS1=HHHH=host==HHHH=TT=domain=user: what follows host begins with the
	// separator that its own SRS0 had.
	host, rest, ok := strings.Cut(body, "=")
	if !ok || host == "" || rest == "" {
		return engine.Address{}, errSRSForm
	}
	_, inner, ok := strings.Cut(rest[1:], "=")
	if !ok {
		return engine.Address{}, errSRSForm
	}
	if _, err := d.original(inner, now); err != nil {
		return engine.Address{}, err
	}
	return engine.Address{User: "SRS0" + rest, Domain: host}, nil
}

// original takes TT=domain=user apart.
func (d *SRSDecoder) original(body string, now time.Time) (engine.Address, error) {
	parts := strings.SplitN(body, "=", 3)
	if len(parts) != 3 {
		return engine.Address{}, errSRSForm
	}
	stamp, ok := parseStamp(parts[0])
	if !ok {
		return engine.Address{}, errSRSForm
	}
	today := int(now.Unix()/(24*60*60)) % 1024
	if age := (today - stamp + 1024) % 1024; age > d.days+1 {
		return engine.Address{}, errSRSAge
	}
	return engine.Address{User: parts[2], Domain: parts[1]}, nil
}

// parseStamp reads two base32 digits: days since 1970 modulo 1024.
func parseStamp(s string) (int, bool) {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	s = strings.ToUpper(s)
	if len(s) != 2 {
		return 0, false
	}
	hi, lo := strings.IndexByte(digits, s[0]), strings.IndexByte(digits, s[1])
	return hi<<5 | lo, hi >= 0 && lo >= 0
}

func (d *SRSDecoder) verify(hash, text string) bool {
	for _, key := range d.keys {
		if hmac.Equal([]byte(srsHash(key, text)), []byte(hash)) {
			return true
		}
	}
	return false
}

// srsHash is the short hash of OpenSMTPD: it is kept so that addresses it
// made before a migration still lead back.
func srsHash(key, text string) string {
	sum := sha1.Sum([]byte(key + text))
	return base64.URLEncoding.EncodeToString(sum[:])[:4]
}
