package sandbox

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// Enter takes from this process, for good, what role has no right to. After
// an error it must end.
func Enter(role string, c Config, _ *slog.Logger) error {
	r, err := rightsOf(role, c)
	if err != nil {
		return err
	}
	if c.Drop != nil {
		if err := c.Drop(); err != nil {
			return err
		}
	}
	if err := noCore(); err != nil {
		return fmt.Errorf("sandbox of %s: %w", role, err)
	}
	if err := unveil(r.files, c.Paths); err != nil {
		return fmt.Errorf("sandbox of %s: %w", role, err)
	}
	if err := unix.PledgePromises(r.promises); err != nil {
		return fmt.Errorf("sandbox of %s: pledge: %w", role, err)
	}
	return nil
}

// unveil leaves nothing of the file system to be seen but paths.
func unveil(files access, paths []string) error {
	permissions := "r"
	if files == writeFiles {
		permissions = "rwc"
	}
	for _, p := range paths {
		if err := unix.Unveil(p, permissions); err != nil {
			return fmt.Errorf("unveil %s: %w", p, err)
		}
	}
	if err := unix.UnveilBlock(); err != nil {
		return fmt.Errorf("unveil: %w", err)
	}
	return nil
}
