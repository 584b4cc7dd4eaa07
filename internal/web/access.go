package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A right is what a visitor may do; each includes those before it.
type right int

const (
	none right = iota
	reads
	changes
)

// Tokens are the secrets that give rights. The second one is "" where nothing
// can be changed.
type Tokens struct{ Read, Change string }

// NewToken returns a secret that cannot be guessed.
func NewToken() string { return rand.Text() }

// of returns the right that a token gives.
func (t *Tokens) of(token string) right {
	switch {
	case same(token, t.Change):
		return changes
	case same(token, t.Read):
		return reads
	}
	return none
}

// same compares in a time that tells nothing of a secret; no secret is "".
func same(got, secret string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && secret != ""
}

// sign returns what only someone with the token can say of text.
func sign(token, text string) string {
	m := hmac.New(sha256.New, []byte(token))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

// visitTime is how long a browser is remembered.
const visitTime = 12 * time.Hour

// cookie returns what a browser shows instead of a token: which one it had,
// until when that counts, and a signature by it. Nothing has to be remembered
// for it here, and a new token ends all visits that began with the old one.
func (t *Tokens) cookie(r right, now time.Time) string {
	text := strconv.Itoa(int(r)) + "." + strconv.FormatInt(now.Add(visitTime).Unix(), 10)
	return text + "." + sign(t.secret(r), text)
}

// ofCookie is the reverse of cookie.
func (t *Tokens) ofCookie(value string, now time.Time) right {
	end := strings.LastIndexByte(value, '.')
	if end < 0 {
		return none
	}
	text, mac := value[:end], value[end+1:]
	kind, until, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(until, 10, 64)
	for _, r := range []right{reads, changes} {
		if secret := t.secret(r); kind == strconv.Itoa(int(r)) && secret != "" && same(mac, sign(secret, text)) &&
			err == nil && now.Unix() < n {
			return r
		}
	}
	return none
}

func (t *Tokens) secret(r right) string {
	if r == changes {
		return t.Change
	}
	return t.Read
}

// proof returns what a form must carry to be taken from the visit of cookie.
func (t *Tokens) proof(cookie string) string { return sign(t.Change, "form "+cookie) }

// isOwnName reports whether a browser that was sent to host was sent here: a
// name of this machine that no name server of a stranger answers for. The port
// says nothing, as a tunnel has its own.
func isOwnName(host string) bool {
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		name = h
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	return err == nil && a.Zone() == "" && a.Unmap().IsLoopback()
}

// bearer returns the token of a program's request.
func bearer(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}
