package sandbox

import "fmt"

// An access is what may be done with the files below the paths that Enter is
// told of.
type access uint8

const (
	noFiles access = iota
	readFiles
	writeFiles // read, write, make and remove
)

// A family is a kind of socket, or several.
type family uint8

const (
	tcp      family = 1 << iota // IPv4 and IPv6
	udp                         // also for the choice among the addresses of a host
	local                       // Unix domain sockets
	noSocket family = 0
)

// rights are what a component may do besides computing, and talking on the
// descriptors that it is given.
type rights struct {
	files     access
	dial      family // make sockets and connect them
	bind      bool   // choose the address that it connects from
	accept    bool   // take connections of the listeners that it is given
	libraries bool   // load code, as the C library does to look up users
	users     bool   // act in the file system for users, root excepted

	// promises are those of pledge(2), which has its own words for all this.
	promises string
}

// roles is the one declaration of what each component may do.
var roles = map[string]rights{
	"crypto":  {promises: "stdio recvfd"},
	"control": {accept: true, promises: "stdio inet unix recvfd sendfd"}, // metrics over TCP
	"lka": {
		files: readFiles, dial: tcp | udp | local, libraries: true,
		promises: "stdio rpath inet unix dns getpw recvfd sendfd",
	},
	"mfa":     {promises: "stdio recvfd sendfd"},
	"smtp":    {accept: true, promises: "stdio inet unix recvfd sendfd"},
	"queue":   {files: writeFiles, promises: "stdio rpath wpath cpath fattr flock recvfd sendfd"},
	"mda":     {promises: "stdio recvfd sendfd"},
	"mta":     {dial: tcp, bind: true, promises: "stdio inet recvfd"},
	"courier": {files: writeFiles, users: true, promises: "stdio rpath wpath cpath fattr id recvfd sendfd"},
	"lmtp":    {files: readFiles, dial: tcp | udp | local, promises: "stdio rpath inet unix dns recvfd"},
	"analyze": {promises: "stdio"}, // compares configurations before a reload
}

// A Config says where a process may use the rights of its role.
type Config struct {
	// Root is the directory that Drop makes the root directory, or "".
	Root string
	// Paths are the files and directories, seen from below Root, that the
	// process may use, if its role may use files at all.
	Paths []string
	// Drop makes the process what it is to be: root directory, groups and
	// user. Enter calls it once what needs the outside has been done.
	Drop func() error
}

// rightsOf returns what a process may do.
func rightsOf(role string, c Config) (rights, error) {
	r, ok := roles[role]
	switch {
	case !ok:
		return r, fmt.Errorf("no sandbox for %q", role)
	case len(c.Paths) > 0 && r.files == noFiles:
		return r, fmt.Errorf("%s uses no files", role)
	}
	return r, nil
}
