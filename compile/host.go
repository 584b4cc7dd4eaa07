package compile

import (
	"errors"
	"net/netip"
)

// A Host tells what Compile needs to know of the machine that will run the
// configuration. It is an argument, so that a configuration can be checked
// for another machine than this one.
type Host interface {
	// ServerName is the name the mail server goes by; see language.md 4.
	ServerName() string
	// Addrs lists every address of every interface.
	Addrs() []netip.Addr
	// Interface lists the addresses of an interface or an interface group.
	Interface(name string) ([]netip.Addr, bool)
	// Resolve lists the addresses of a host name.
	Resolve(name string) ([]netip.Addr, error)
	// Service returns the port of a TCP service.
	Service(name string) (port uint16, ok bool)
	// ReadFile returns a file with what decides whether it may be trusted.
	// A missing file is an error for which errors.Is(err, fs.ErrNotExist).
	ReadFile(path string) (File, error)
	// Helper reports whether a program that serves tables of this backend
	// is installed.
	Helper(backend string) bool
}

// A File is the content of a file and its protection.
type File struct {
	Data []byte
	UID  int
	Mode uint32 // permission bits
}

// A KeyHost is a Host for a process that must not see private keys: their
// files are judged by owner and mode, and what is in them is left to whoever
// may read it.
type KeyHost interface {
	Host
	// StatKey returns the file of a private key without its content.
	StatKey(path string) (File, error)
}

// ErrContent is returned by ReadFile of a Host that knows a file to be there
// but not what is in it; its owner and mode come with the error. Such a table
// may hold anything, and such a certificate is taken for a good one.
var ErrContent = errors.New("content not known")

// ErrUnknown is returned by ReadFile and Resolve of a Host that is known in
// part: it cannot say. What the configuration needs of it is a condition
// then, not a fault.
var ErrUnknown = errors.New("not known without facts about the host")
