package proc

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCloseInherited checks that a program which this process starts does not
// get the descriptors that this one happened to be started with.
func TestCloseInherited(t *testing.T) {
	fd, err := unix.Dup(2) // without FD_CLOEXEC, as what was inherited
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	open := func() bool {
		out, err := exec.Command("/bin/sh", "-c", "for f in /dev/fd/*; do echo $f; done").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(out), "/dev/fd/"+strconv.Itoa(fd)+"\n")
	}
	if !open() {
		t.Skip("/dev/fd does not tell")
	}
	CloseInherited()
	if open() {
		t.Errorf("descriptor %d was passed on", fd)
	}
}
