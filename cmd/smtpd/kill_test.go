package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"smtpd/internal/smtptest"
)

// killComponent is the command killchild NAME COMPONENT: kills the process of a
// component with -9 and waits until the daemon has another.
func killComponent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: killchild name component")
	}
	s := daemonNamed(ts, args[0])
	back := "restarted child component=" + args[1]
	before := strings.Count(s.log.String(), back)
	pid := componentPID(s.cmd.Process.Pid, args[1])
	if pid == 0 {
		ts.Fatalf("%s has no process %s", args[0], args[1])
	}
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	wait(ts, back, func() bool { return strings.Count(s.log.String(), back) > before })
}

// limitFiles is the command limitfiles NAME COMPONENT BYTES: from now on the
// process of a component, or that of all, fails to make a file longer.
func limitFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: limitfiles name component bytes")
	}
	daemon := daemonNamed(ts, args[0]).cmd.Process.Pid
	pid := componentPID(daemon, args[1])
	if pid == 0 {
		pid = daemon
	}
	cmd := exec.Command("prlimit", "--pid", strconv.Itoa(pid), "--fsize="+args[2]+":")
	if os.Geteuid() == 0 { // whose limits only some of root's may change
		info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		ts.Check(err)
		owner := info.Sys().(*syscall.Stat_t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("prlimit: %v: %s", err, out)
	}
}

// componentPID returns the process that the daemon has for a component.
func componentPID(daemon int, name string) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		fields := strings.Fields(string(rest))
		if len(fields) < 2 || fields[1] != strconv.Itoa(daemon) || fields[0] == "Z" {
			continue
		}
		pid := filepath.Base(filepath.Dir(path))
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%s/cmdline", pid))
		if bytes.Contains(line, []byte("\x00--role="+name+"\x00")) {
			n, _ := strconv.Atoi(pid)
			return n
		}
	}
	return 0
}

// interrupt is the command interrupt ADDR NAME COMPONENT BEFORE AFTER: holds
// the dialogue in BEFORE, kills a component, and goes on with that in AFTER.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: interrupt address name component before after")
	}
	conn, err := dialServer(ts, args[0])
	ts.Check(err)
	defer conn.Close()
	d := &smtptest.Dialogue{Conn: conn, Timeout: patience}
	if err := d.Run(ts.ReadFile(args[3])); err != nil {
		ts.Fatalf("%s: %v", args[3], err)
	}
	killComponent(ts, false, args[1:3])
	if err := d.Run(ts.ReadFile(args[4])); err != nil {
		ts.Fatalf("%s: %v", args[4], err)
	}
}
