// Package sandbox takes from a process of the daemon every right that its
// component does not need. One table, in role.go, says what each may do; from
// it come landlock, seccomp and no_new_privs on Linux, and pledge and unveil on
// OpenBSD. On other systems the user and the root directory of a process are
// what confines it, and the log says so.
//
// Whoever starts the processes calls Enter in each, before it reads anything.
// The parent is not confined, nor is what it starts to deliver mail and to
// filter it: a delivery agent may be a program that is set-user-id, for which
// no_new_privs would be the end, and the rest is what the parent is there to
// do. Nor is the daemon that runs in one process: all rights together are
// those of the parent.
//
// # Linux
//
// Three walls stand behind each other, so that one may be missing.
//
// The root directory is empty for all but lka and queue, and the user is not
// root.
//
// Landlock decides by path: of the file system only what the role is given can
// be reached, and of TCP, signals and abstract sockets nothing that it does not
// need. A kernel without it is said in a line of the log; one that knows a part
// of it does that part.
//
// Seccomp decides by system call. It takes away: programs and processes
// (execve, and clone other than for threads), files for a role without any,
// sockets other than of the families that the role dials, listening and
// accepting, new code in memory, and what no role has a use for, from ptrace
// and mount to io_uring, which would open a way round all of this.
//
// It is a list of what is denied and not of what is allowed. A Go program does
// not choose its system calls: the runtime and, linked with cgo, the C library
// do, and differently with each version, kernel and machine. A call that is
// missing from a list of the allowed ends a mail server on the day somebody
// builds it with the next Go; the calls that reach something outside the
// process, which are what there is to protect, do not change from one version
// to the next, and a kernel's new ones are covered by landlock. What is denied
// fails with EPERM, so that a library which only tries its luck, as resolvers
// and allocators do, goes on.
//
// Calls in the other system call tables of the machine (32-bit ones, x32) end
// the process or are unknown: nothing here makes any.
//
// # What must never happen here
//
//   - an error that leaves a process running with more rights than its role has,
//   - a right that is taken from some threads of a process only,
//   - a role that is not in the table.
package sandbox
