package parent

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// Exit codes of delivery commands, as sysexits.h has them, which also class
// the failures of what is done in this process.
const (
	exUsage       = 64
	exDataErr     = 65
	exNoInput     = 66
	exNoUser      = 67
	exNoHost      = 68
	exUnavailable = 69
	exSoftware    = 70
	exOSErr       = 71
	exOSFile      = 72
	exCantCreat   = 73
	exIOErr       = 74
	exTempFail    = 75
	exProtocol    = 76
	exNoPerm      = 77
	exConfig      = 78

	// What the shell says when it could not run a command.
	shNotExecutable = 126
	shNotFound      = 127
	shSignal        = 128 // plus the number of the signal
	maxSignal       = 64
)

// exitNames are the words that OpenSMTPD logs for exit codes.
var exitNames = map[int]string{
	exUsage:       "command line usage error",
	exDataErr:     "data format error",
	exNoInput:     "cannot open input",
	exNoUser:      "user unknown",
	exNoHost:      "host name unknown",
	exUnavailable: "service unavailable",
	exSoftware:    "internal software error",
	exOSErr:       "system resource problem",
	exOSFile:      "critical OS file missing",
	exCantCreat:   "can't create user output file",
	exIOErr:       "input/output error",
	exTempFail:    "temporary failure",
	exProtocol:    "remote error in protocol",
	exNoPerm:      "permission denied",
	exConfig:      "local configuration error",
}

// exitStatus holds the enhanced status codes (RFC 3463) of exit codes; its
// class is set by the outcome.
var exitStatus = map[int]string{
	exDataErr:     "6.0",
	exNoUser:      "1.1",
	exNoHost:      "1.2",
	exCantCreat:   "2.0",
	exNoPerm:      "7.0",
	exConfig:      "3.5",
	exOSErr:       "3.0",
	exUnavailable: "3.0",
}

// statusNoPerm is that of what the system does not permit, for the time being.
const statusNoPerm = "4.7.0"

// delivered is the Result of success.
var delivered = Result{Outcome: Delivered, Status: "2.0.0", Text: "Delivered"}

// exitResult returns what exit code of a command means; line is the last line
// it printed.
//
// A shell that cannot find or execute the command exits with 127 or 126. That
// is a package being upgraded or a file system not mounted, or a mistake in
// the configuration, and never the fault of the mail: it waits. So it does if
// the shell saw a signal end the command, as it does if one ends the shell.
func exitResult(code int, line string) Result {
	if code == 0 {
		return delivered
	}
	detail := "exited abnormally"
	if line != "" {
		detail = `"` + line + `"`
	}
	outcome := PermFail
	switch {
	case code == exTempFail, code == exOSErr, code == shNotFound, code == shNotExecutable,
		code > shSignal && code <= shSignal+maxSignal:
		outcome = TempFail
	}
	return failed(outcome, code, detail)
}

// failed returns the Result of a failure of the kind that an exit code names.
func failed(o Outcome, code int, detail string) Result {
	class, rest := "5.", "3.0"
	if o == TempFail {
		class = "4."
	}
	if s, ok := exitStatus[code]; ok {
		rest = s
	}
	if name, ok := exitNames[code]; ok {
		detail = name + ": " + detail
	}
	return Result{Outcome: o, Status: class + rest, Text: "Error (" + printable(detail) + ")"}
}

// A deliveryError is a failure of something done in this process.
type deliveryError struct {
	code   int // exit code that a command would have ended with
	status string
	text   string
	err    error
}

func (e *deliveryError) Error() string {
	if e.err != nil {
		return e.text + ": " + e.err.Error()
	}
	return e.text
}

func (e *deliveryError) Unwrap() error { return e.err }

// failure returns the Result of a delivery that err ended. Whatever is not
// known to be lasting is temporary: a full disk, a quota, a file system that
// is not mounted or is read-only today.
func failure(err error) Result {
	var d *deliveryError
	switch {
	case errors.As(err, &d):
		o := PermFail
		if d.code == exTempFail || d.code == exOSErr {
			o = TempFail
		}
		r := failed(o, d.code, d.Error())
		if d.status != "" {
			r.Status = d.status
		}
		return r
	case errors.Is(err, context.DeadlineExceeded):
		return Result{TempFail, "4.3.0", "Error (terminated; timeout)"}
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ENOTDIR):
		// The path itself is wrong and no waiting mends it.
		return failed(PermFail, exCantCreat, err.Error())
	case errors.Is(err, syscall.EDQUOT):
		return fullResult("4.2.2", err)
	case errors.Is(err, syscall.ENOSPC):
		return fullResult("4.3.1", err)
	case errors.Is(err, fs.ErrPermission):
		return failed(TempFail, exNoPerm, err.Error())
	}
	return failed(TempFail, exTempFail, err.Error())
}

func fullResult(status string, err error) Result {
	r := failed(TempFail, exTempFail, err.Error())
	r.Status = status
	return r
}

// maxText bounds what is kept of what a command or a server said.
const maxText = 512

// printable returns s, shortened, with every byte that is no printable ASCII
// as a question mark: it goes into logs and reports.
func printable(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
