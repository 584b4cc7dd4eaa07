package sandbox

import seccomp "github.com/elastic/go-seccomp-bpf"

// The numbers of the calls that socketcall(2) makes.
const (
	callSocket  = 1
	callBind    = 2
	callConnect = 3
	callListen  = 4
	callAccept  = 5
	callAccept4 = 18
)

// deniedSockets returns the calls that make sockets where r dials none, and
// those that listen, which none does. This machine has all of them twice, and
// where they are one call a filter does not see the family: who dials may dial
// any that an ordinary user may.
func deniedSockets(r rights) (names [][]string, calls []call) {
	deny := func(number uint64, name ...string) {
		names = append(names, name)
		calls = append(calls, when("socketcall", seccomp.Condition{Argument: 0, Operation: seccomp.Equal, Value: number}))
	}
	deny(callListen, "listen")
	if !r.accept {
		deny(callAccept, accepting...)
		deny(callAccept4)
	}
	if !r.bind {
		deny(callBind, "bind")
	}
	if r.dial == noSocket {
		deny(callSocket, "socket")
		deny(callConnect, "connect")
	}
	return names, calls
}
