//go:build unix

package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noCore has the process leave no core file.
func noCore() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setrlimit(RLIMIT_CORE): %w", err)
	}
	return nil
}
