// Package oshost answers the questions of compile.Host with what this
// machine has. It is the one place where loading a configuration looks at
// the system; every answer is asked for afresh, so that a reload sees what
// changed.
package oshost

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"smtpd/compile"
)

// A Host is this machine.
type Host struct {
	// ConfDir holds the file mailname.
	ConfDir string
	// LibexecDirs are searched for the programs that serve tables.
	LibexecDirs []string
}

var _ compile.Host = (*Host)(nil)

// New returns the Host with the directories of this system.
func New() *Host {
	return &Host{
		ConfDir: "/etc",
		LibexecDirs: []string{
			"/usr/local/libexec/smtpd",
			"/usr/libexec/opensmtpd",
			"/usr/lib/opensmtpd",
			"/usr/local/libexec/opensmtpd",
		},
	}
}

// lookupTimeout bounds a question to the resolver: a configuration must be
// judged, if not loaded, while the network is down.
const lookupTimeout = 10 * time.Second

// ServerName returns the first line of the file mailname, or else the host
// name, made canonical if it has no dot.
func (h *Host) ServerName() string {
	if name := firstLine(filepath.Join(h.ConfDir, "mailname")); name != "" {
		return name
	}
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	if strings.Contains(name, ".") {
		return name
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	canonical, err := net.DefaultResolver.LookupCNAME(ctx, name)
	if err != nil {
		return name
	}
	return cmp.Or(strings.TrimSuffix(canonical, "."), name)
}

// firstLine returns the first line of a small file, "" if there is none.
func firstLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 4096)).ReadString('\n')
	if err != nil && err != io.EOF {
		return ""
	}
	return strings.TrimSpace(line)
}

// Addrs lists the addresses of all interfaces.
func (h *Host) Addrs() []netip.Addr {
	list, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for i := range list {
		addrs = append(addrs, addrsOf(&list[i])...)
	}
	return addrs
}

// Interface lists the addresses of one interface.
func (h *Host) Interface(name string) ([]netip.Addr, bool) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, false
	}
	return addrsOf(i), true
}

// addrsOf lists the addresses of i, those of its link alone with their zone.
func addrsOf(i *net.Interface) []netip.Addr {
	list, err := i.Addrs()
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		addr := p.Addr().Unmap()
		if addr.IsLinkLocalUnicast() && addr.Is6() {
			addr = addr.WithZone(i.Name)
		}
		addrs = append(addrs, addr)
	}
	return addrs
}

// Resolve lists the addresses of a host name.
func (h *Host) Resolve(name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// wellKnown are the services a mail server listens on, for systems without a
// services database.
var wellKnown = map[string]uint16{"smtp": 25, "smtps": 465, "submissions": 465, "submission": 587}

// Service returns the port of a TCP service as the services database has it.
// The names there have a case, which the resolver of Go does not mind.
func (h *Host) Service(name string) (uint16, bool) {
	f, err := os.Open("/etc/services")
	if err != nil {
		p, ok := wellKnown[name]
		return p, ok
	}
	defer f.Close()
	return findService(f, name)
}

// findService looks a name or an alias up in a services database.
func findService(db io.Reader, name string) (uint16, bool) {
	for s := bufio.NewScanner(db); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != name && !slices.Contains(words[2:], name) {
			continue
		}
		number, ok := strings.CutSuffix(words[1], "/tcp")
		if port, err := strconv.ParseUint(number, 10, 16); ok && err == nil && port != 0 {
			return uint16(port), true
		}
	}
	return 0, false
}

// maxFile is the most that is read of a file: a million entries are a tenth
// of it.
const maxFile = 512 << 20

// ReadFile reads a file with its owner and mode. It never waits: what is
// neither a file nor a device such as /dev/null is refused.
func (h *Host) ReadFile(path string) (compile.File, error) {
	f, file, err := open(path)
	if err != nil {
		return file, err
	}
	defer f.Close()
	file.Data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return compile.File{}, err
	}
	if len(file.Data) > maxFile {
		return compile.File{}, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %d bytes", maxFile)}
	}
	return file, nil
}

// open opens a file to read and returns it with its owner and mode.
func open(path string) (*os.File, compile.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, compile.File{}, err
	}
	info, err := f.Stat()
	if err == nil {
		if t := info.Mode().Type(); t != 0 && t&fs.ModeCharDevice == 0 {
			err = &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
		}
	}
	if err != nil {
		f.Close()
		return nil, compile.File{}, err
	}
	uid := -1
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		uid = int(st.Uid)
	}
	return f, compile.File{UID: uid, Mode: uint32(info.Mode().Perm())}, nil
}

// A Sealed is this machine for a process that must not read private keys: it
// says who may read their files, and opens them to find out that it could.
type Sealed struct{ *Host }

var _ compile.KeyHost = Sealed{}

// StatKey returns owner and mode of a file.
func (Sealed) StatKey(path string) (compile.File, error) {
	f, file, err := open(path)
	if err == nil {
		f.Close()
	}
	return file, err
}

// Helper reports whether the program for tables of a backend is installed.
func (h *Host) Helper(backend string) bool {
	if strings.ContainsRune(backend, '/') {
		return false
	}
	for _, dir := range h.LibexecDirs {
		if _, err := os.Stat(filepath.Join(dir, "table-"+backend)); err == nil {
			return true
		}
	}
	return false
}
