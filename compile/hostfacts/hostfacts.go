// Package hostfacts is a mail host on paper: a compile.Host that answers
// from a list of facts, so that a configuration can be judged, with the same
// result, on any machine. It never asks the machine it runs on.
//
// A file of facts has one fact a line; empty lines and lines that begin with
// # are skipped:
//
//	name mail.example.org             the name the server goes by
//	interface egress 192.0.2.1 2001:db8::1
//	group wan egress tun0             an interface group, of interfaces above
//	address 192.0.2.7                 another address of the host
//	host mx.example.org 192.0.2.1     a host name that resolves
//	service ssmtp 465                 a name in the services database
//	file /etc/mail/aliases            a file that is there
//	file /etc/mail/domains domains    the same, with the content of domains
//	file /etc/ssl/key mode 0640 owner 0
//	helper ldap                       a program that serves tables
//
// The path of a content is relative to the file of facts, and comes last. A
// file of which nothing else is said has mode 0600 and belongs to root: such
// a one is safe. The owner is a number, or root.
package hostfacts

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"smtpd/compile"
)

// A Host is what is known of a mail host. Nothing else is there, except for
// the loopback interface and the services of mail.
type Host struct {
	name       string
	interfaces map[string][]netip.Addr
	addrs      []netip.Addr
	hosts      map[string][]netip.Addr
	services   map[string]uint16
	files      map[string]file
	helpers    map[string]bool
	missing    error // what is said of a file or name that is not listed
}

// A file is there; what it holds may be known.
type file struct {
	compile.File
	known bool
}

var _ compile.Host = (*Host)(nil)

// Unnamed returns the host of which nothing is known.
func Unnamed() *Host {
	h := empty()
	h.missing = compile.ErrUnknown
	return h
}

// empty returns a host with what every host has.
func empty() *Host {
	loopback := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	return &Host{
		name:       "localhost",
		interfaces: map[string][]netip.Addr{"lo": loopback, "lo0": loopback},
		addrs:      loopback,
		hosts:      map[string][]netip.Addr{"localhost": loopback},
		services:   map[string]uint16{"smtp": 25, "smtps": 465, "submissions": 465, "submission": 587},
		files:      make(map[string]file),
		helpers:    make(map[string]bool),
		missing:    fs.ErrNotExist,
	}
}

// Parse reads the facts in text. name is the path of their file; read
// returns the content of another file.
func Parse(name, text string, read func(path string) ([]byte, error)) (*Host, error) {
	h := empty()
	n := 0
	for line := range strings.Lines(text) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := h.fact(words[0], words[1:], filepath.Dir(name), read); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return h, nil
}

// fact adds one fact.
func (h *Host) fact(kind string, args []string, dir string, read func(path string) ([]byte, error)) error {
	least, most := 1, 1
	switch kind {
	case "interface", "group", "host":
		most = len(args)
	case "file":
		most = 6
	case "service":
		least, most = 2, 2
	}
	if len(args) < least || len(args) > most {
		return fmt.Errorf("%s: %d words are too few or too many", kind, len(args))
	}
	switch kind {
	case "name":
		h.name = args[0]
	case "interface":
		addrs, err := parseAddrs(args[1:])
		h.interfaces[args[0]] = addrs
		h.addrs = append(h.addrs, addrs...)
		return err
	case "group":
		return h.group(args[0], args[1:])
	case "address":
		addrs, err := parseAddrs(args)
		h.addrs = append(h.addrs, addrs...)
		return err
	case "host":
		addrs, err := parseAddrs(args[1:])
		h.hosts[strings.ToLower(args[0])] = addrs
		return err
	case "service":
		port, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil || port == 0 {
			return fmt.Errorf("service %s: %q is no port", args[0], args[1])
		}
		h.services[args[0]] = uint16(port)
	case "file":
		return h.file(args[0], args[1:], dir, read)
	case "helper":
		h.helpers[args[0]] = true
	default:
		return fmt.Errorf("unknown fact %q; the facts are name, interface, group, address, host, service, file and helper", kind)
	}
	return nil
}

// group adds an interface group.
func (h *Host) group(name string, members []string) error {
	var addrs []netip.Addr
	for _, m := range members {
		list, ok := h.interfaces[m]
		if !ok {
			return fmt.Errorf("group %s: no interface %s above", name, m)
		}
		addrs = append(addrs, list...)
	}
	h.interfaces[name] = addrs
	return nil
}

// file adds a file with what is said of it.
func (h *Host) file(path string, args []string, dir string, read func(path string) ([]byte, error)) error {
	f := file{File: compile.File{Mode: 0o600}}
	for len(args) > 1 {
		value := args[1]
		switch args[0] {
		case "mode":
			mode, err := strconv.ParseUint(value, 8, 12)
			if err != nil {
				return fmt.Errorf("file %s: %q is no mode, such as 0640", path, value)
			}
			f.Mode = uint32(mode) & 0o777
		case "owner":
			uid, err := strconv.ParseUint(value, 10, 31)
			if err != nil && value != "root" {
				return fmt.Errorf("file %s: owner %q is no user id and not root", path, value)
			}
			f.UID = int(uid)
		default:
			return fmt.Errorf("file %s: unknown word %q; mode and owner may be said, and then a content", path, args[0])
		}
		args = args[2:]
	}
	if len(args) == 1 {
		from := args[0]
		if !filepath.IsAbs(from) {
			from = filepath.Join(dir, from)
		}
		data, err := read(from)
		if err != nil {
			return fmt.Errorf("file %s: %w", path, err)
		}
		f.Data, f.known = data, true
	}
	h.files[path] = f
	return nil
}

func parseAddrs(words []string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, w := range words {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return nil, fmt.Errorf("%q is no address", w)
		}
		addrs = append(addrs, a.Unmap())
	}
	return addrs, nil
}

// ServerName returns the name of the host.
func (h *Host) ServerName() string { return h.name }

// Addrs lists the addresses of the host.
func (h *Host) Addrs() []netip.Addr { return slices.Clone(h.addrs) }

// Interface lists the addresses of an interface or group.
func (h *Host) Interface(name string) ([]netip.Addr, bool) {
	addrs, ok := h.interfaces[name]
	return addrs, ok
}

// Resolve lists the addresses of a host name.
func (h *Host) Resolve(name string) ([]netip.Addr, error) {
	addrs, ok := h.hosts[strings.ToLower(name)]
	if !ok {
		return nil, h.missing
	}
	return addrs, nil
}

// Service returns the port of a service.
func (h *Host) Service(name string) (uint16, bool) {
	port, ok := h.services[name]
	return port, ok
}

// ReadFile returns a file. If only its content is not known, the rest comes
// with the error.
func (h *Host) ReadFile(path string) (compile.File, error) {
	f, ok := h.files[path]
	switch {
	case !ok:
		return compile.File{}, &fs.PathError{Op: "open", Path: path, Err: h.missing}
	case !f.known:
		return f.File, &fs.PathError{Op: "read", Path: path, Err: compile.ErrContent}
	}
	return f.File, nil
}

// Helper reports whether a program serves tables of a backend.
func (h *Host) Helper(backend string) bool { return h.helpers[backend] }
