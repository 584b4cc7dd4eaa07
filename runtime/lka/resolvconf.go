package lka

import (
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// settings say which name servers are asked, and how.
type settings struct {
	servers []string // host:port
	tries   int
	timeout time.Duration // of one server's one try
	trustAD bool          // whatever is on the way to the servers
}

// trusts reports whether an answer of server may say that DNSSEC vouches for
// it: only what comes over the loopback interface, or a network that the
// administrator trusts, is what the server said.
func (s *settings) trusts(server string) bool {
	addr, err := netip.ParseAddrPort(server)
	return s.trustAD || err == nil && addr.Addr().Unmap().IsLoopback()
}

// servers holds settings that follow resolv.conf: a host that changes its
// network need not start its mail server anew.
type servers struct {
	path string // "": fixed

	mu      sync.Mutex
	checked time.Time
	read    fs.FileInfo
	now     settings
}

const (
	resolvInterval = 5 * time.Second
	maxResolvConf  = 1 << 20
)

// fix keeps s whatever files say.
func (v *servers) fix(s settings) { v.now = s.orDefaults() }

// current returns the settings of the present.
func (v *servers) current(now time.Time) settings {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.path == "" || !v.checked.IsZero() && now.Sub(v.checked) < resolvInterval {
		return v.now
	}
	first := v.checked.IsZero()
	v.checked = now
	info, err := os.Stat(v.path)
	if err == nil && sameFile(info, v.read) {
		return v.now
	}
	// While the file is replaced there may be none: what was known is better
	// than nothing.
	if data, err := readLimited(v.path, maxResolvConf); err == nil {
		v.now, v.read = parseResolvConf(string(data)), info
	} else if first {
		v.now = settings{}.orDefaults()
	}
	return v.now
}

// parseResolvConf ignores what it does not understand, as every resolver
// does.
func parseResolvConf(text string) settings {
	c, err := dns.ClientConfigFromReader(strings.NewReader(text))
	if err != nil {
		return settings{}.orDefaults()
	}
	s := settings{tries: min(max(c.Attempts, 1), 5), timeout: time.Duration(min(max(c.Timeout, 1), 30)) * time.Second}
	for _, server := range c.Servers[:min(len(c.Servers), 3)] {
		s.servers = append(s.servers, net.JoinHostPort(server, c.Port))
	}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[0] == "options" && slices.Contains(fields, "trust-ad") {
			s.trustAD = true
		}
	}
	return s.orDefaults()
}

// orDefaults returns s with what resolv.conf(5) has for what is not said.
func (s settings) orDefaults() settings {
	if len(s.servers) == 0 {
		s.servers = []string{"127.0.0.1:53"}
	}
	if s.tries == 0 {
		s.tries = 2
	}
	if s.timeout == 0 {
		s.timeout = 5 * time.Second
	}
	return s
}

func withPort(server string) string {
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(strings.Trim(server, "[]"), "53")
}
