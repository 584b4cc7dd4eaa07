package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"smtpd/internal/ctl"
	"smtpd/runtime/parent"
	"smtpd/runtime/proc"
)

// offlineRole is the role of the processes that send what sendmail stored, each
// as the owner of one file.
const offlineRole = "offline"

// Exit statuses of sendmail after which it may be called again: sysexits.h.
const (
	exUnavailable = 69
	exTempFail    = 75
)

// offline says where stored messages are and how they are sent.
func (d *daemon) offline() parent.Offline {
	return parent.Offline{Dir: filepath.Join(d.spool, parent.OfflineDir), Send: d.sendStored}
}

// sendStored sends the message that user uid stored in the file called name.
// It is that user's process that opens the file.
func (d *daemon) sendStored(ctx context.Context, uid uint32, name string) error {
	as, err := owner(uid)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, d.program.Path)
	cmd.Args = proc.Order{Role: offlineRole, Args: []string{name}}.CommandLine()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Dir = filepath.Join(d.spool, parent.OfflineDir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: as}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err = cmd.Run(); err == nil {
		return nil
	}
	line, _, _ := strings.Cut(strings.TrimPrefix(said.String(), "sendmail: "), "\n")
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &ended) && ended.Exited() && ended.ExitCode() != exUnavailable && ended.ExitCode() != exTempFail:
		return fmt.Errorf("%w: %s: %w", parent.ErrPermanent, line, err)
	}
	return fmt.Errorf("%s: %w", line, err)
}

// owner returns what makes a process that of user uid, nil for the user that
// this one is.
func owner(uid uint32) (*syscall.Credential, error) {
	self := os.Geteuid()
	if int(uid) == self {
		return nil, nil
	}
	if self != 0 {
		return nil, fmt.Errorf("%w: this daemon is user %d and sends no mail of others", parent.ErrPermanent, self)
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if errors.As(err, new(user.UnknownUserIdError)) {
		return nil, fmt.Errorf("%w: %w", parent.ErrPermanent, err)
	}
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: group %q: %w", u.Username, u.Gid, err)
	}
	return &syscall.Credential{Uid: uid, Gid: uint32(gid), Groups: []uint32{uint32(gid)}}, nil
}

// runOffline is what such a process does; its current directory is the one in
// the spool. It returns the exit status of sendmail.
func runOffline(o proc.Order, stderr io.Writer) int {
	if len(o.Args) != 1 {
		return 1
	}
	return ctl.SendStored(o.Args[0], "..", stderr)
}
