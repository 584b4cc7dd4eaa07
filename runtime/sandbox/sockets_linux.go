//go:build !386

package sandbox

import (
	"golang.org/x/sys/unix"

	seccomp "github.com/elastic/go-seccomp-bpf"
)

// deniedSockets returns the calls that make sockets other than those of r, and
// those that listen, which none does: listeners come from the parent.
func deniedSockets(r rights) (names [][]string, calls []call) {
	names = append(names, []string{"listen"})
	calls = append(calls, when("socketpair", not(0, unix.AF_UNIX)))
	if !r.accept {
		names = append(names, accepting)
	}
	if !r.bind {
		names = append(names, []string{"bind"})
	}
	if r.dial == noSocket {
		return append(names, []string{"socket", "connect"}), calls
	}
	var other []seccomp.Condition // no family that may be dialled
	if r.dial&(tcp|udp) != 0 {
		other = append(other, not(0, unix.AF_INET), not(0, unix.AF_INET6))
	}
	if r.dial&local != 0 {
		other = append(other, not(0, unix.AF_UNIX))
	}
	calls = append(calls,
		when("socket", other...),
		when("socket", has(1, otherBits)),
		when("socket", has(1, streamBit), has(1, dgramBit)), // raw
	)
	if r.dial&udp == 0 {
		calls = append(calls, when("socket", has(1, dgramBit)))
	}
	return names, calls
}
