//go:build !linux

package proc

import (
	"errors"
	"syscall"
)

func anyUser(*syscall.SysProcAttr) error {
	return errors.New("no right on this system to act for users without being root")
}
