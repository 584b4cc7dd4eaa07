package parent

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fullDisk gives this goroutine, and nobody else, a home on a disk of so many
// bytes.
func fullDisk(t *testing.T, size string) string {
	t.Helper()
	home := t.TempDir()
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("no mount namespace: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("mounts cannot be private: %v", err)
	}
	if err := unix.Mount("disk", home, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(home, unix.MNT_DETACH) })
	return home
}

// TestFullDisk checks that mail waits while there is no room for it, and that
// nothing is left of what could be written.
func TestFullDisk(t *testing.T) {
	big := "Subject: big\n\n" + strings.Repeat("0123456789abcde\n", 1<<14)
	t.Run("maildir", func(t *testing.T) {
		home := fullDisk(t, "64k")
		a, _ := newTestAgent(t)
		d := testDelivery(home, Maildir, "Maildir")
		if r := deliver(t, a, d, big); r.Outcome != TempFail || r.Status != "4.3.1" {
			t.Errorf("result = %+v", r)
		}
		for _, dir := range []string{"tmp", "new"} {
			if left := files(t, filepath.Join(home, "Maildir", dir)); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		}
		wantDelivered(t, deliver(t, a, d, testMessage))
	})
	t.Run("mbox", func(t *testing.T) {
		home := fullDisk(t, "64k")
		a, _ := newTestAgent(t)
		d := testDelivery(home, Mbox, "mbox")
		wantDelivered(t, deliver(t, a, d, testMessage))
		before, err := os.ReadFile(filepath.Join(home, "mbox"))
		if err != nil {
			t.Fatal(err)
		}
		if r := deliver(t, a, d, big); r.Outcome != TempFail || r.Status != "4.3.1" {
			t.Errorf("result = %+v", r)
		}
		if after, err := os.ReadFile(filepath.Join(home, "mbox")); err != nil || string(after) != string(before) {
			t.Errorf("%d bytes, %v, of %d", len(after), err, len(before))
		}
	})
	t.Run("no room for a name", func(t *testing.T) {
		home := fullDisk(t, "64k,nr_inodes=2")
		a, _ := newTestAgent(t)
		for m, target := range map[Method]string{Maildir: "Maildir", Mbox: "dir/mbox"} {
			if r := deliver(t, a, testDelivery(home, m, target), testMessage); r.Outcome != TempFail {
				t.Errorf("method %d: %+v", m, r)
			}
		}
	})
}
