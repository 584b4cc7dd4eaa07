//go:build !darwin && !freebsd && !linux && !netbsd && !openbsd

package control

import "errors"

// socketUser refuses everyone where it is not known how to tell who is there.
func socketUser(int) (uint32, error) {
	return 0, errors.New("peer credentials are not supported on this system")
}
