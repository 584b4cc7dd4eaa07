package compile

import (
	"net/netip"
	"strconv"
	"strings"
)

// parseAddr reads an address as the C library's resolver does: IPv4 in one
// to four parts, IPv6 with a zone or without. zone is set if that names an
// interface, which has to be there.
func parseAddr(s string) (a netip.Addr, zone string, ok bool) {
	if a, ok = parseIPv4(s); ok {
		return a, "", true
	}
	text, zone, zoned := strings.Cut(s, "%")
	a, err := netip.ParseAddr(text)
	if err != nil || a.Is4() {
		return netip.Addr{}, "", false
	}
	if !zoned {
		return a, "", true
	}
	if isZoneIndex(zone) {
		return a.WithZone(zone), "", true
	}
	return a.WithZone(zone), zone, true
}

// isZoneIndex reports whether a zone is the number of an interface, which is
// not looked up.
func isZoneIndex(zone string) bool {
	_, err := strconv.ParseUint(zone, 10, 32)
	return err == nil
}

// parseIPv4 reads an IPv4 address of one to four parts, the last of which
// fills what the others leave: 127.1 is 127.0.0.1 and 25 is 0.0.0.25. A part
// is decimal, octal after a 0, or hexadecimal after 0x.
func parseIPv4(s string) (a netip.Addr, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return a, false
	}
	var n uint64
	for i, p := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (4 - i)
		}
		v, ok := parseCNumber(p, bits)
		if !ok {
			return a, false
		}
		n = n<<bits | v
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), true
}

// parseCNumber reads a number without a sign as C writes it, of at most so
// many bits.
func parseCNumber(s string, bits int) (uint64, bool) {
	base := 10
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		s, base = hex, 16
	} else if len(s) > 1 && s[0] == '0' {
		base = 8
	}
	n, err := strconv.ParseUint(s, base, bits)
	return n, err == nil
}
