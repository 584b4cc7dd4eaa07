package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"smtpd/internal/memtest"
)

// keyOnly is the command keyonly NAME PKI: the private key that keypair made
// for PKI is in the memory of crypto, and in that of no other process of the
// daemon.
func keyOnly(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keyonly name pki")
	}
	pair, err := tls.LoadX509KeyPair(ts.MkAbs(args[1]+".crt"), ts.MkAbs(args[1]+".key"))
	ts.Check(err)
	traces, err := memtest.Traces(pair.PrivateKey)
	ts.Check(err)
	text := bytes.Split([]byte(ts.ReadFile(args[1]+".key")), []byte("\n"))[1]
	for name, pid := range processes(ts, args[0]) {
		found, err := memtest.Find(pid, traces, [][]byte{text})
		ts.Check(err)
		if found[0] != (name == "crypto") || found[1] {
			ts.Fatalf("%s: has the key: %v, has the text of its file: %v", name, found[0], found[1])
		}
	}
}

// processes returns those of the daemon called name: "parent" and one for each
// role.
func processes(ts *testscript.TestScript, name string) map[string]int {
	daemon := daemonNamed(ts, name).cmd.Process.Pid
	pids := map[string]int{"parent": daemon}
	for _, r := range roles {
		if pids[r.name] = componentPID(daemon, r.name); pids[r.name] == 0 {
			ts.Fatalf("%s has no process %s", name, r.name)
		}
	}
	return pids
}

// confined is the command confined NAME: each component of the daemon is
// another user than root, without groups of root, cannot become more in any of
// its threads, and has an empty root directory where it needs no other. The
// courier, once there is one, may act for users and is confined as well.
func confined(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: confined name")
	}
	pids := processes(ts, args[0])
	if pid := componentPID(pids["parent"], courierRole); pid != 0 {
		checkThreads(ts, courierRole, pid, "00000000000000c0") // setgid and setuid
	}
	for _, r := range roles {
		checkThreads(ts, r.name, pids[r.name], "0000000000000000")
		root := fmt.Sprintf("/proc/%d/root", pids[r.name])
		if at, err := os.Readlink(root); err != nil || (at == "/") != (r.home == everywhere) {
			ts.Fatalf("%s: root directory %s, %v", r.name, at, err)
		}
		if list, err := os.ReadDir(root); err != nil || r.home == nowhere && len(list) > 0 {
			ts.Fatalf("%s: root directory with %v, %v", r.name, list, err)
		}
	}
}

// checkThreads checks what the threads of a process may do.
func checkThreads(ts *testscript.TestScript, role string, pid int, capabilities string) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	ts.Check(err)
	if len(threads) == 0 {
		ts.Fatalf("%s is gone", role)
	}
	for _, path := range threads {
		if status, err := os.ReadFile(path); err == nil { // else it has ended
			checkStatus(ts, role, string(status), capabilities)
		}
	}
}

func checkStatus(ts *testscript.TestScript, role, status, capabilities string) {
	fields := make(map[string]string)
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	for name, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapEff": capabilities, "CapPrm": capabilities} {
		if fields[name] != want {
			ts.Fatalf("%s: %s is %q, want %q", role, name, fields[name], want)
		}
	}
	for _, name := range []string{"Uid", "Gid", "Groups"} {
		for id := range strings.FieldsSeq(fields[name]) {
			if id == "0" {
				ts.Fatalf("%s: %s is %q", role, name, fields[name])
			}
		}
	}
}
