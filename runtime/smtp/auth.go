package smtp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"smtpd/compile"
)

const (
	maxCredential = 1023 // bytes of a decoded answer
	failureDelay  = time.Second
)

// offersAuth reports whether the client may authenticate: never in clear.
func (s *session) offersAuth() bool { return s.at.auth != compile.NoAuth && s.tls != nil }

// auth answers AUTH (RFC 4954).
func (s *session) auth(arg string) {
	mechanism, initial, has := strings.Cut(arg, " ")
	mechanism = strings.ToUpper(mechanism)
	switch {
	case s.authed:
		s.fail(replyAuthAlready)
	case !s.offersAuth():
		s.fail(replyNotSupported)
	case mechanism == "":
		s.fail(replyNoMechanism)
	case mechanism != "PLAIN" && mechanism != "LOGIN":
		s.fail(replyBadMechanism, mechanism)
	case !s.srv.guesses.allows(s.addr):
		s.reached(limitAuthPerSource)
		s.end(replyTooManyAuth)
	case !s.filterAuth(arg): // answered
	case mechanism == "PLAIN":
		s.finishAuth(s.authPlain(initial, has))
	default:
		s.finishAuth(s.authLogin(initial, has))
	}
}

// redact returns a command line as the log may show it.
func redact(line string) string {
	if len(line) < 5 || !strings.EqualFold(line[:5], "AUTH ") {
		return line
	}
	mechanism, _, has := strings.Cut(line[5:], " ")
	if has {
		return "AUTH " + mechanism + " (...)"
	}
	return line
}

// Credentials are what a client says of itself.
type credentials struct{ user, password string }

// errCredentials says that an answer is no base64 or does not hold what it
// should, or that the client has cancelled.
var errCredentials = errors.New("malformed credentials")

// authPlain reads the answer of PLAIN (RFC 4616). Acting for another user is
// not offered: an authorization identity must be the user's own.
func (s *session) authPlain(initial string, has bool) (c credentials, err error) {
	if !has {
		initial, err = s.challenge("")
		if err != nil {
			return c, err
		}
	}
	s.line = "AUTH PLAIN (...)"
	b, err := decodeAnswer(initial)
	if err != nil {
		return c, err
	}
	parts := bytes.Split(b, []byte{0})
	if len(parts) != 3 || len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
		return c, errCredentials
	}
	return newCredentials(parts[1], parts[2])
}

// authLogin reads the answers of LOGIN. An initial response is the user name.
func (s *session) authLogin(initial string, has bool) (c credentials, err error) {
	if !has {
		if initial, err = s.challenge("VXNlcm5hbWU6"); err != nil {
			return c, err
		}
	}
	s.line = "AUTH LOGIN (username)"
	user, err := decodeAnswer(initial)
	if err != nil {
		return c, err
	}
	answer, err := s.challenge("UGFzc3dvcmQ6")
	if err != nil {
		return c, err
	}
	s.line = "AUTH LOGIN (password)"
	password, err := decodeAnswer(answer)
	if err != nil {
		return c, err
	}
	return newCredentials(user, password)
}

// challenge asks for one line.
func (s *session) challenge(text string) (string, error) {
	s.reply("334 " + text)
	line, err := s.readLine()
	s.happened("protocol-client", "********")
	return line, err
}

func decodeAnswer(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) > maxCredential {
		return nil, errCredentials
	}
	return b, nil
}

func newCredentials(user, password []byte) (credentials, error) {
	if len(user) == 0 || len(password) == 0 || bytes.ContainsAny(user, "\r\n\x00") || bytes.ContainsAny(password, "\r\n\x00") {
		return credentials{}, errCredentials
	}
	return credentials{string(user), string(password)}, nil
}

// finishAuth checks credentials and answers.
func (s *session) finishAuth(c credentials, err error) {
	switch {
	case errors.Is(err, errCredentials):
		s.authFailed(replySyntax)
		return
	case errors.Is(err, errCommandLength):
		s.reached(limitLine)
		s.badInput(replyCommandTooLong)
		return
	case err != nil:
		s.lost(err)
		return
	}
	ok, err := s.srv.names.Authenticate(s.ctx, s.at.authTable, c.user, c.password)
	result := "permfail"
	switch {
	case err != nil:
		result = "tempfail"
	case ok:
		result = "ok"
	}
	logins.WithLabelValues(result).Inc()
	s.log("smtp authentication", slog.String("user", c.user), slog.String("result", result))
	s.happened("link-auth", map[string]string{"ok": "pass", "permfail": "fail", "tempfail": "error"}[result], c.user)
	switch {
	case err != nil:
		s.warn("smtp: check credentials", err)
		s.refuse(replyFailure)
	case ok:
		s.authed, s.user = true, c.user
		s.reply(replyAuthenticated)
	default:
		s.srv.guesses.count(s.addr)
		time.Sleep(rand.N(failureDelay))
		s.authFailed(replyCredentials)
	}
}

// authFailed refuses, and ends the session of a client that guesses.
func (s *session) authFailed(reply string) {
	s.fail("%s", reply)
	if s.rejects++; s.rejects >= s.budget.authFailures && s.state != closing {
		s.reached(limitAuth)
		s.end(replyTooManyAuth)
	}
}
