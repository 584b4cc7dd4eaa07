package parent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"smtpd/runtime/imsg"
)

// pamHelper is the program that asks PAM about passwords, and name services
// about accounts. It needs the C library and the modules of the system, so it
// is no part of the daemon; if it is where the daemon's programs are, it is
// asked about passwords in place of the files of accounts, and about accounts
// that are in no file.
const pamHelper = "smtpd-pam"

// pamTime is how long it may take: modules ask other hosts.
const pamTime = 30 * time.Second

// maxPAMAnswer bounds what is read of it.
const maxPAMAnswer = 1024

// A pam asks PAM, each question in a process of its own: what modules leak,
// break or hang on to ends with it.
type pam struct{ path string }

// pam returns the helper, nil if it is not installed.
func (in installation) pam() *pam {
	path, err := in.find(pamHelper)
	if err != nil {
		return nil
	}
	return &pam{path}
}

// check reports whether PAM takes a password for that of an account.
func (p *pam) check(ctx context.Context, q login) (bool, error) {
	switch text, err := p.ask(ctx, "login", q.User, q.Password); {
	case err != nil:
		return false, err
	case text == "yes" || text == "no":
		return text == "yes", nil
	default:
		return false, fmt.Errorf("PAM: %q", text)
	}
}

// account returns the account of a name as a table of users has it,
// uid:gid:home.
func (p *pam) account(ctx context.Context, name string) (value string, ok bool, err error) {
	switch text, err := p.ask(ctx, "account", name); {
	case err != nil:
		return "", false, err
	case text == "no":
		return "", false, nil
	case strings.Count(text, ":") < 2:
		return "", false, fmt.Errorf("name services: %q", text)
	default:
		return text, true, nil
	}
}

// ask returns the answer to a question. Both sides say every word with its
// length before it: two bytes, the high one first.
func (p *pam) ask(ctx context.Context, words ...string) (string, error) {
	if err := p.safe(); err != nil {
		return "", err
	}
	request, err := appendPAM(nil, words...)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, pamTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path)
	cmd.Env = []string{"PATH=" + systemPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdin = bytes.NewReader(request)
	cmd.WaitDelay = time.Second
	var answer bounded
	cmd.Stdout = &answer
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return "", fmt.Errorf("%s: %w", p.path, err)
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: %w", p.path, ctx.Err())
	}
	return readPAM(answer.b)
}

// safe returns why nobody should run the program as root.
func (p *pam) safe() error {
	info, err := os.Stat(p.path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() || info.Mode()&(0o022|fs.ModeType) != 0 {
		return fmt.Errorf("%s: not run: somebody else than root can change it", p.path)
	}
	return nil
}

var errPAM = errors.New("malformed answer of " + pamHelper)

func appendPAM(b []byte, parts ...string) ([]byte, error) {
	for _, s := range parts {
		if len(s) > math.MaxUint16 {
			return nil, errors.New("longer than a name or a password can be")
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return b, nil
}

func readPAM(b []byte) (string, error) {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return "", errPAM
	}
	return string(b[2:]), nil
}

// bounded keeps what is written to it, and fails when that is too much.
type bounded struct{ b []byte }

func (w *bounded) Write(p []byte) (int, error) {
	if len(w.b)+len(p) > maxPAMAnswer {
		return 0, io.ErrShortWrite
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

// A nameService answers lka about accounts that no file has.
type nameService struct{ helper *pam }

func (s nameService) serve(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	if m.File != nil {
		m.File.Close()
	}
	r := imsg.NewReader(m.Data)
	name := r.String()
	if err := r.Close(); err != nil {
		return imsg.Message{}, err
	}
	var value string
	var ok bool
	if s.helper != nil {
		var err error
		if value, ok, err = s.helper.account(ctx, name); err != nil {
			return imsg.Message{}, fmt.Errorf("parent: %w", err)
		}
	}
	return imsg.Message{Data: imsg.AppendString(imsg.AppendBool(nil, ok), value)}, nil
}
