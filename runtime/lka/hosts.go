package lka

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// hosts answers from a hosts file. It reads the file again when it changed,
// but looks only now and then.
type hosts struct {
	path string

	mu      sync.Mutex
	checked time.Time
	stamp   time.Time
	size    int64
	addrs   map[string][]netip.Addr
	names   map[netip.Addr]string // the first name of each address
}

const (
	hostsInterval = 5 * time.Second
	maxHosts      = 8 << 20 // bytes of the file; more is ignored
)

// lookup returns the addresses of a name in lower case without trailing dot.
// Names in localhost are never looked up anywhere (RFC 6761, section 6.3).
func (h *hosts) lookup(name string) []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refresh()
	if addrs := h.addrs[name]; addrs != nil {
		return addrs
	}
	if isLocalhost(name) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return nil
}

// name returns the name of an address.
func (h *hosts) name(a netip.Addr) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refresh()
	name, ok := h.names[a]
	return name, ok
}

func (h *hosts) refresh() {
	now := time.Now()
	if !h.checked.IsZero() && now.Sub(h.checked) < hostsInterval {
		return
	}
	h.checked = now
	info, err := os.Stat(h.path)
	if err != nil {
		h.addrs, h.names = nil, nil
		h.stamp, h.size = time.Time{}, 0
		return
	}
	if info.ModTime().Equal(h.stamp) && info.Size() == h.size && h.addrs != nil {
		return
	}
	data, err := readLimited(h.path, maxHosts)
	if err != nil {
		return // what was known is better than nothing
	}
	h.stamp, h.size = info.ModTime(), info.Size()
	h.addrs, h.names = parseHosts(data)
}

// parseHosts ignores what it does not understand, as every resolver does.
func parseHosts(data []byte) (map[string][]netip.Addr, map[netip.Addr]string) {
	addrs := make(map[string][]netip.Addr)
	names := make(map[netip.Addr]string)
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		addr = addr.WithZone("").Unmap()
		for _, name := range fields[1:] {
			if !isHostName(name) {
				continue
			}
			name = strings.ToLower(name)
			addrs[name] = append(addrs[name], addr)
			if _, ok := names[addr]; !ok {
				names[addr] = name
			}
		}
	}
	return addrs, names
}
