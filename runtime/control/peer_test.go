package control

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

const dialVariable = "SMTPD_TEST_DIAL"

func TestMain(m *testing.M) {
	path, ok := os.LookupEnv(dialVariable)
	if !ok {
		os.Exit(m.Run())
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		os.Exit(1)
	}
	c.Read(make([]byte, 1)) // until the test is done with it
}

// TestPeerUser has a process connect, as root one of another user, and asks
// the kernel who it is.
func TestPeerUser(t *testing.T) {
	dir, err := os.MkdirTemp("", "peer") // a folder of t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "socket")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	want := uint32(os.Geteuid())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dialVariable+"="+path)
	if want == 0 {
		want = 12345
		makePublic(t, dir, path, &cmd.Path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: want, Gid: want}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	c, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := PeerUser(c); err != nil || got != want {
		t.Errorf("user %d, %v, want %d", got, err, want)
	}
}

// makePublic opens the folder and the socket to every user, and copies the
// program there.
func makePublic(t *testing.T, dir, socket string, program *string) {
	t.Helper()
	text, err := os.ReadFile(*program)
	if err != nil {
		t.Fatal(err)
	}
	*program = filepath.Join(dir, "program")
	if err := os.WriteFile(*program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, socket} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
}
