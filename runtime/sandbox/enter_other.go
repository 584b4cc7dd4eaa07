//go:build !linux && !openbsd

package sandbox

import (
	"fmt"
	"log/slog"
)

// Enter has the process leave no core file. There is no sandbox to enter on
// this system, which the log says.
func Enter(role string, c Config, log *slog.Logger) error {
	if _, err := rightsOf(role, c); err != nil {
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
	log.Warn("sandbox: none on this system: only the root directory and the user confine the process")
	return nil
}
