package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// always lists the calls that no role has a use for. Not every machine has
// every one.
var always = [][]string{
	// other processes
	{
		"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp",
		"tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal", "migrate_pages", "move_pages",
	},
	// another identity, another view of the system
	{
		"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "capset",
		"setuid32", "setgid32", "setreuid32", "setregid32", "setresuid32", "setresgid32", "setgroups", "setgroups32",
		"chroot", "pivot_root", "unshare", "setns", "mount", "umount", "umount2", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount",
		"fspick", "mount_setattr", "personality", "setsid", "setpgid", "vhangup",
	},
	// ways round: files without a path, calls without a call
	{
		"open_by_handle_at", "name_to_handle_at", "fanotify_init", "fanotify_mark",
		"io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "io_submit", "userfaultfd", "bpf", "perf_event_open",
	},
	// the kernel and the machine
	{
		"kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module", "reboot", "swapon", "swapoff",
		"acct", "quotactl", "quotactl_fd", "syslog", "sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_settime64",
		"clock_adjtime", "clock_adjtime64", "adjtimex", "stime", "iopl", "ioperm", "modify_ldt", "vm86", "vm86old", "uselib", "nfsservctl", "_sysctl",
		"lookup_dcookie", "mknod", "mknodat",
	},
	// keys of the kernel, and memory that processes share by name
	{
		"add_key", "request_key", "keyctl", "ipc", "shmget", "shmat", "shmctl", "semget", "semop", "semtimedop", "semctl",
		"msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink",
	},
}

// opening and changing are the calls for which a path is needed.
var (
	opening  = []string{"open", "openat", "openat2", "creat"}
	changing = []string{
		"mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
		"truncate", "truncate64", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "lchown", "lchown32", "fchown", "fchown32", "fchownat",
		"utime", "utimes", "utimensat", "utimensat_time64", "futimesat",
		"setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
	}
	starting  = []string{"execve", "execveat", "fork", "vfork"}
	accepting = []string{"accept", "accept4"}
)

// acting are the calls by which a thread becomes another in the file system.
var acting = []string{"setfsuid", "setfsgid", "setfsuid32", "setfsgid32"}

// rootID has those of them fail that would make it root. The kernel reads 32
// bits of the argument.
var rootID = []call{when("setfsuid", lacks(0, 0xffffffff)), when("setfsuid32", lacks(0, 0xffffffff))}

// namespaces are the flags of clone that make a new view of the system.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// The kinds of socket, of which a call names one together with flags: stream
// and datagram are 1 and 2, raw is both bits, all others have a higher bit.
const (
	streamBit = unix.SOCK_STREAM
	dgramBit  = unix.SOCK_DGRAM
	otherBits = 0xf &^ (streamBit | dgramBit)
)

// A call is a system call with what its arguments must be for a rule to hold.
type call = seccomp.NameWithConditions

func when(name string, conditions ...seccomp.Condition) call {
	return call{Name: name, Conditions: conditions}
}

func not(argument uint32, value uint64) seccomp.Condition {
	return seccomp.Condition{Argument: argument, Operation: seccomp.NotEqual, Value: value}
}

func has(argument uint32, bits uint64) seccomp.Condition {
	return seccomp.Condition{Argument: argument, Operation: seccomp.BitsSet, Value: bits}
}

func lacks(argument uint32, bits uint64) seccomp.Condition {
	return seccomp.Condition{Argument: argument, Operation: seccomp.BitsNotSet, Value: bits}
}

// denied returns the calls that r takes away: those by name, in groups that a
// filter can jump over, and those that depend on their arguments.
func denied(r rights) (names [][]string, calls []call) {
	names = append(names, always...)
	self := uint64(os.Getpid())
	calls = append(calls, when("tgkill", not(0, self)), when("clone", has(0, namespaces)))
	names = append(names, starting)
	calls = append(calls, rootID...)
	if !r.users {
		names = append(names, acting)
	}
	calls = append(calls, when("kill", not(0, self)), when("clone", lacks(0, unix.CLONE_THREAD)))
	if r.files == noFiles {
		names = append(names, opening)
	}
	if r.files != writeFiles {
		names = append(names, changing)
	}
	if !r.libraries {
		calls = append(calls, newCode()...)
	}
	moreNames, moreCalls := deniedSockets(r)
	return append(names, moreNames...), append(calls, moreCalls...)
}

// newCode is how memory becomes code.
func newCode() []call {
	var calls []call
	for _, name := range []string{"mmap2", "mprotect", "pkey_mprotect"} {
		calls = append(calls, when(name, has(2, unix.PROT_EXEC)))
	}
	if runtime.GOARCH != "386" { // there it takes a pointer, and nothing calls it
		calls = append(calls, when("mmap", has(2, unix.PROT_EXEC)))
	}
	return calls
}

// filterCalls installs the filter of r in all threads.
func filterCalls(r rights, log *slog.Logger) error {
	info, err := arch.GetInfo("")
	if err != nil || !seccomp.Supported() {
		log.Warn("sandbox: no seccomp on this system: only landlock, the root directory and the user confine the process", "reason", err)
		return onOneThread(noNewPrivs)
	}
	program, err := assemble(r, info)
	if err != nil {
		return err
	}
	return onOneThread(func() error { return install(program) })
}

// assemble makes the program of a filter: steps, each of which denies some
// calls or falls through to the next.
//
// The library makes whole filters too. In those of version 1.6.0 a call whose
// arguments were looked at and found good is then compared, by its last
// argument instead of its number, with all calls that come after it. So every
// step here begins by loading the number.
func assemble(r rights, info *arch.Info) ([]bpf.RawInstruction, error) {
	a := assembler{info: info}
	a.onlyNative()
	// C libraries make threads with clone3, whose flags a filter cannot see,
	// and fall back on clone if the kernel does not know it.
	a.step(unknownCall, a.byName([]string{"clone3"})...)
	names, calls := denied(r)
	for _, group := range names {
		a.step(seccomp.ActionErrno, a.byName(group)...)
	}
	for _, c := range calls {
		a.step(seccomp.ActionErrno, a.byCondition(c)...)
	}
	return a.end()
}

// unknownCall answers as a kernel does that lacks a call.
const unknownCall = seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)

// An assembler makes a filter for a machine.
type assembler struct {
	info    *arch.Info
	program []bpf.Instruction
	err     error
}

// loadNumber and loadMachine load from struct seccomp_data.
var (
	loadNumber  = bpf.LoadAbsolute{Off: 0, Size: 4}
	loadMachine = bpf.LoadAbsolute{Off: 4, Size: 4}
)

// onlyNative ends a process that makes a call in the table of another machine,
// such as the 32-bit one of this: the rules name calls by their numbers in
// this one's. The calls of x32 are in this one's, further up.
func (a *assembler) onlyNative() {
	a.program = append(a.program,
		loadMachine,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(a.info.ID), SkipTrue: 1},
		bpf.RetConstant{Val: uint32(seccomp.ActionKillProcess)},
	)
	if a.info.ID == arch.X86_64.ID {
		a.program = append(a.program,
			loadNumber,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: uint32(arch.X32.SeccompMask), SkipFalse: 1},
			bpf.RetConstant{Val: uint32(unknownCall)},
		)
	}
}

// byName returns those calls of names that the machine has.
func (a *assembler) byName(names []string) []seccomp.SyscallWithConditions {
	var some []seccomp.SyscallWithConditions
	for _, n := range names {
		if number, ok := a.info.SyscallNames[n]; ok {
			some = append(some, seccomp.SyscallWithConditions{Num: uint32(number)})
		}
	}
	return some
}

// byCondition returns c, if the machine has it.
func (a *assembler) byCondition(c call) []seccomp.SyscallWithConditions {
	some := a.byName([]string{c.Name})
	for i := range some {
		some[i].Conditions = []seccomp.ArgumentConditions{c.Conditions}
	}
	return some
}

// step answers calls with an action.
func (a *assembler) step(action seccomp.Action, calls ...seccomp.SyscallWithConditions) {
	if len(calls) == 0 {
		return
	}
	p := seccomp.NewProgram()
	act, end := p.NewLabel(), p.NewLabel()
	for i, c := range calls {
		c.Assemble(&p, i < len(calls)-1, act, end)
	}
	p.SetLabel(act)
	p.Ret(action)
	p.SetLabel(end)
	program, err := p.Assemble()
	a.err = errors.Join(a.err, err)
	a.program = append(append(a.program, loadNumber), program...)
}

// end lets through what no step has answered.
func (a *assembler) end() ([]bpf.RawInstruction, error) {
	if a.err != nil {
		return nil, a.err
	}
	return bpf.Assemble(append(a.program, bpf.RetConstant{Val: uint32(seccomp.ActionAllow)}))
}

// install makes program a filter of every thread. The library has a function
// for it, which does not see that a thread could not be synchronized.
func install(program []bpf.RawInstruction) error {
	if err := noNewPrivs(); err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno != 0:
		return errno
	case thread != 0:
		return fmt.Errorf("thread %d has a filter of its own", thread)
	}
	return nil
}
