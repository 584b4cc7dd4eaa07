package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// An order is what a process of this test is to do.
type order struct {
	Role  string
	Root  string // with ID: chroot and setuid when the process enters
	ID    int
	Paths []string

	Inside, Outside string // directories; both hold the files "file" and "old", and Inside "socket"
	TCP, UDP        string // addresses of somebody who listens
	Wait            bool   // for the end of standard input
	NoLandlock      bool   // as on a kernel without it
}

// A report is what came of it. A probe that went well is "".
type report struct {
	Probes map[string]string
	Log    []string
}

// The descriptors of a process of this test.
const (
	listenerFD = 3
	fileFD     = 4
)

const orderVariable = "SMTPD_TEST_SANDBOX"

// obey is the main function of such a process.
func obey(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	ln, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		return err
	}
	if o.NoLandlock {
		if err := withoutLandlock(); err != nil {
			return err
		}
	}
	user.Current() // loads what looks up users
	probes := probes(&o, ln)
	var log lines
	if err := Enter(o.Role, o.config(), slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		return err
	}
	r := report{Probes: make(map[string]string), Log: log}
	for name, probe := range probes {
		if err := probe(); err != nil {
			r.Probes[name] = err.Error()
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
				r.Probes[name] = "denied"
			}
		} else {
			r.Probes[name] = ""
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	if o.Wait {
		io.Copy(io.Discard, os.Stdin)
	}
	return nil
}

// withoutLandlock has the calls of landlock fail as on a kernel that lacks it.
func withoutLandlock() error {
	info, err := arch.GetInfo("")
	if err != nil {
		return err
	}
	a := assembler{info: info}
	a.step(unknownCall, a.byName([]string{"landlock_create_ruleset"})...)
	program, err := a.end()
	if err != nil {
		return err
	}
	return onOneThread(func() error { return install(program) })
}

func (o *order) config() Config {
	c := Config{Root: o.Root, Paths: o.Paths}
	if o.ID != 0 {
		c.Drop = func() error {
			return errors.Join(syscall.Chroot(o.Root), os.Chdir("/"),
				syscall.Setgroups(nil), syscall.Setgid(o.ID), syscall.Setuid(o.ID))
		}
	}
	return c
}

// lines collects what is logged.
type lines []string

func (l *lines) Write(p []byte) (int, error) {
	*l = append(*l, string(p))
	return len(p), nil
}

// probes are what a process may try: the first are somebody's right each, the
// next nobody's, the last everybody's.
func probes(o *order, ln net.Listener) map[string]func() error {
	in := func(name string) string { return filepath.Join(o.Inside, name) }
	return map[string]func() error{
		"read":   func() error { return reads(in("file")) },
		"list":   func() error { _, err := os.ReadDir(o.Inside); return err },
		"write":  func() error { return os.WriteFile(in("new"), nil, 0o600) },
		"store":  func() error { return stores(in("store")) },
		"accept": func() error { return accepts(ln) },
		"tcp":    func() error { return dials(&net.Dialer{}, "tcp4", o.TCP) },
		"udp":    func() error { return dials(&net.Dialer{}, "udp4", o.UDP) },
		"unix":   func() error { return dials(&net.Dialer{}, "unix", in("socket")) },
		"bind": func() error {
			return dials(&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}, "tcp4", o.TCP)
		},
		"code":    newCodeWorks,
		"program": func() error { return exec.Command("/bin/sh", "-c", "exit 0").Run() },
		"user":    func() error { _, err := user.Lookup("root"); return err },

		"outside":        func() error { return reads(filepath.Join(o.Outside, "file")) },
		"outside write":  func() error { return os.WriteFile(filepath.Join(o.Outside, "new"), nil, 0o600) },
		"outside remove": func() error { return os.Remove(filepath.Join(o.Outside, "old")) },
		"exec":           func() error { return unix.Exec("/bin/no-such-program", []string{"x"}, nil) },
		"fork":           func() error { return callError(unix.SYS_CLONE, unix.CLONE_FS|unix.CLONE_NEWNS, 0, 0) },
		"listen":         func() error { return callError(unix.SYS_LISTEN, ^uintptr(0), 1, 0) },
		"raw":            func() error { return makes(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
		"packet":         func() error { return makes(unix.AF_PACKET, unix.SOCK_DGRAM, 0) },
		"netlink":        func() error { return makes(unix.AF_NETLINK, unix.SOCK_DGRAM, 0) },
		"kill":           func() error { return unix.Kill(os.Getppid(), 0) },
		"tgkill":         func() error { return unix.Tgkill(os.Getppid(), os.Getppid(), 0) },
		"ptrace":         func() error { return callError(unix.SYS_PTRACE, unix.PTRACE_DETACH, 1, 0) },
		"peek":           func() error { return callError(unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid()), 0, 0) },
		"mount":          func() error { return unix.Mount("", "/no-such-directory", "tmpfs", 0, "") },
		"act":            func() error { return actsAs(61001) },
		"act as root":    func() error { return actsAs(0) },
		"act as 2^32":    func() error { return actsAs(1 << 32) }, // of which the kernel reads the lower half
		"setuid":         func() error { return callError(unix.SYS_SETUID, 0, 0, 0) },
		"chroot":         func() error { return unix.Chroot("/") },
		"namespace":      func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"bpf":            func() error { return callError(unix.SYS_BPF, 99, 0, 0) },
		"io_uring":       func() error { return callError(unix.SYS_IO_URING_SETUP, 1, 0, 0) },
		"keys":           func() error { return callError(unix.SYS_KEYCTL, 99, 0, 0) },
		"kexec":          func() error { return callError(unix.SYS_KEXEC_LOAD, 0, 0, 0) },
		"shared memory":  func() error { return callError(unix.SYS_SHMGET, 0, 4096, unix.IPC_CREAT) },

		"work": works,
	}
}

// actsAs has a thread that ends with it act for a user in the file system.
func actsAs(uid uint64) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- callError(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	}()
	return <-done
}

// callError makes a call with arguments that do nothing even where it is
// allowed, and fail with another error then.
func callError(number, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func reads(path string) error {
	_, err := os.ReadFile(path)
	return err
}

func makes(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func dials(d *net.Dialer, network, address string) error {
	c, err := d.DialContext(context.Background(), network, address)
	if err == nil {
		c.Close()
	}
	return err
}

// accepts takes the connection that waits.
func accepts(ln net.Listener) error {
	c, err := ln.Accept()
	if err == nil {
		c.Close()
	}
	return err
}

func newCodeWorks() error {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil {
		unix.Munmap(b)
	}
	return err
}

// stores does what queue does with its directory.
func stores(dir string) error {
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return err
	}
	return errors.Join(db.Set([]byte("key"), []byte("value"), pebble.Sync), db.Flush(), db.Close())
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

// works does what every component does.
func works() error {
	steps := []struct {
		what string
		do   func() error
	}{
		{"threads", startThreads},
		{"timer", func() error { <-time.After(time.Millisecond); return nil }},
		{"collection", func() error { runtime.GC(); return nil }},
		{"random numbers", func() error { _, err := rand.Read(make([]byte, 32)); return err }},
		{"signal", ownSignal},
		{"file that was handed over", useFile},
		{"file in memory", func() error {
			fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC)
			unix.Close(fd)
			return err
		}},
		{"descriptor over a socket", passFile},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %v", s.what, err) // not %w: a right that is missing is not a right denied
		}
	}
	return nil
}

// startThreads has threads begin and end.
func startThreads() error {
	var all sync.WaitGroup
	start := make(chan struct{})
	for range 20 {
		all.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			<-start
		})
	}
	close(start)
	all.Wait()
	return nil
}

func ownSignal() error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGUSR1)
	defer signal.Stop(c)
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
		return err
	}
	<-c
	return nil
}

func useFile() error {
	f := os.NewFile(fileFD, "file")
	_, err1 := f.WriteString("text")
	_, err2 := f.Stat()
	_, err3 := f.Seek(0, io.SeekStart)
	return errors.Join(err1, err2, err3, f.Sync(), f.Truncate(2))
}

func passFile() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if err := unix.Sendmsg(fds[0], []byte("x"), unix.UnixRights(fileFD), nil, 0); err != nil {
		return err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(fds[1], make([]byte, 1), oob, 0)
	if err == nil && n == 0 {
		err = errors.New("no descriptor came")
	}
	return err
}
