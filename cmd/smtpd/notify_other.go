//go:build !linux

package main

import "time"

// monotonic is for systemd, which there is not.
func monotonic() (now time.Duration, ok bool) { return 0, false }
