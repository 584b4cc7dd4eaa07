// Package ctl is the programs that users and administrators run beside the
// daemon: smtpctl, sendmail, mailq, makemap, newaliases and smtp, which are one
// executable. cmd/smtpctl calls it, and so do the scripts that test the whole
// daemon.
//
// They need no privileges: the daemon tells who asks by peer credentials.
//
// What must never happen here: text that a remote host chose shown so that it
// makes a line or a field of its own; a message that was not taken reported
// as sent.
package ctl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"smtpd/runtime/control"
)

// defaultSpool is where the sockets of the daemon are, unless $SMTPD_SPOOL
// says otherwise.
const defaultSpool = "/var/spool/smtpd"

// Exit statuses. Those of sendmail are read by the programs that call it.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUnavailable = 69
	exitSoftware    = 70
	exitTempFail    = 75
	exitUsage       = 255 // of smtpctl: no such command
)

// A terminal is what a program reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	spool    string
	stored   bool // sendmail: what is sent now was stored before
}

// Main is the program called name; it returns the exit status.
func Main(name string, args []string) int {
	spool := os.Getenv("SMTPD_SPOOL")
	if spool == "" {
		spool = defaultSpool
	}
	return run(&terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr, spool: spool}, name, args)
}

// run does what the program called name does with args.
func run(t *terminal, name string, args []string) int {
	switch name {
	case "sendmail", "send-mail":
		return sendmail(t, args)
	case "mailq":
		return smtpctl(t, []string{"show", "queue"})
	case "smtp":
		return smtp(t, args)
	case "makemap":
		return makemap(t, args)
	case "newaliases":
		return newaliases(t, args)
	}
	return smtpctl(t, args)
}

// admin connects to the administrator's socket.
func (t *terminal) admin() (*control.Client, error) { return t.dial("control.sock") }

var (
	errNotRunning = errors.New("smtpd doesn't seem to be running")
	errNeedRoot   = errors.New("need root privileges")
)

func (t *terminal) dial(socket string) (*control.Client, error) {
	c, err := control.Dial(filepath.Join(t.spool, socket))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, errNeedRoot
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, errNotRunning
	}
	return c, err
}

// fail prints what went wrong and returns the exit status of a command that
// failed.
func (t *terminal) fail(err error) int {
	if errors.Is(err, control.ErrIncompatible) {
		err = errors.New("incompatible smtpctl and smtpd")
	}
	fmt.Fprintf(t.err, "smtpctl: %v\n", err)
	return exitFailed
}
