//go:build unix

package stat

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuSeconds returns the time that this process has computed.
func cpuSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
