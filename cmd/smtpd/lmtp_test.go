package main

import (
	"net"
	"os"
	"strconv"
	"strings"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"

	"smtpd/runtime/proc"
)

// lmtpServer NAME ADDR [CODE] is remote with LMTP, on a TCP port or, if ADDR
// has a slash, on a socket that the daemon's account alone may use.
func lmtpServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: lmtp NAME ADDR [CODE]")
	}
	r := &remoteHost{dir: ts.MkAbs(args[0])}
	if len(args) == 3 {
		code, err := strconv.Atoi(args[2])
		ts.Check(err)
		r.refuse = &gosmtp.SMTPError{Code: code, EnhancedCode: gosmtp.EnhancedCode{code / 100, 7, 0}, Message: "not today"}
	}
	ts.Check(os.MkdirAll(r.dir, 0o755))
	network := "tcp"
	if strings.Contains(args[1], "/") {
		network = "unix"
	}
	ln, err := net.Listen(network, args[1])
	ts.Check(err)
	if a, err := proc.Choose(""); network == "unix" && err == nil && os.Geteuid() == 0 {
		ts.Check(os.Chown(args[1], a.UID, a.GID))
		ts.Check(os.Chmod(args[1], 0o600))
	}
	s := gosmtp.NewServer(r)
	s.LMTP, s.Domain = true, args[0]+".example"
	go s.Serve(ln)
	ts.Defer(func() { s.Close() })
}
