package sandbox

import (
	"fmt"
	"log/slog"
	"runtime"

	"golang.org/x/sys/unix"
)

// Enter takes from this process, with all its threads and for good, what role
// has no right to. After an error it must end.
func Enter(role string, c Config, log *slog.Logger) error {
	r, err := rightsOf(role, c)
	if err != nil {
		return err
	}
	// Paths are resolved now, while they can be reached from outside the new
	// root directory.
	if err := restrictPaths(r, c, log); err != nil {
		return fmt.Errorf("sandbox of %s: landlock: %w", role, err)
	}
	if c.Drop != nil {
		if err := c.Drop(); err != nil {
			return err
		}
	}
	if err := seal(); err != nil {
		return fmt.Errorf("sandbox of %s: %w", role, err)
	}
	if err := filterCalls(r, log); err != nil {
		return fmt.Errorf("sandbox of %s: seccomp: %w", role, err)
	}
	return nil
}

// seal keeps what is in memory in memory: no dump of it, and no other process
// of the same user that reads it.
func seal() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl(PR_SET_DUMPABLE): %w", err)
	}
	return noCore()
}

// noNewPrivs keeps this thread, and those that it is made the model of, from
// gaining rights by starting a program. The caller has locked the thread.
func noNewPrivs() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl(PR_SET_NO_NEW_PRIVS): %w", err)
	}
	return nil
}

// onOneThread calls f on a thread that does not change meanwhile.
func onOneThread(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}
