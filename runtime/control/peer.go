package control

import "net"

// PeerUser returns the user id of the process at the other end, as it was when
// that connected. The kernel says so: no program of ours needs a set-id bit to
// be believed.
func PeerUser(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var asked error
	if err := raw.Control(func(fd uintptr) { uid, asked = socketUser(int(fd)) }); err != nil {
		return 0, err
	}
	return uid, asked
}
