package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic reads the clock that systemd compares the begin of a reload with.
func monotonic() (now time.Duration, ok bool) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Duration(t.Nano()), err == nil
}
