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
	"syscall"
	"time"
)

// pamHelper is the program that asks PAM about passwords. It needs the C
// library and the modules of the system, so it is no part of the daemon; if it
// is where the daemon's programs are, it is asked in place of the files of
// accounts.
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

// check reports whether PAM takes a password for that of an account. Both sides
// say everything with its length before it: two bytes, the high one first. The
// answer is yes, no, or why PAM cannot say.
func (p *pam) check(ctx context.Context, q login) (bool, error) {
	if err := p.safe(); err != nil {
		return false, err
	}
	request, err := appendPAM(nil, q.User, q.Password)
	if err != nil {
		return false, err
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
		return false, fmt.Errorf("%s: %w", p.path, err)
	}
	if ctx.Err() != nil {
		return false, fmt.Errorf("%s: %w", p.path, ctx.Err())
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

func readPAM(b []byte) (bool, error) {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return false, errPAM
	}
	switch text := string(b[2:]); text {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	default:
		return false, fmt.Errorf("PAM: %q", text)
	}
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
