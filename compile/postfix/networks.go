package postfix

import (
	"net/netip"
	"slices"
	"strings"

	"smtpd/lang/diag"
)

// maxNetworks bounds the networks that are left when some are taken out of
// others.
const maxNetworks = 1000

// networks are the clients that permit_mynetworks is for.
type networks struct {
	criterion string // of a match
	loopback  bool   // the host itself is among them
	prefixes  []netip.Prefix
}

// mynetworks converts the trusted clients.
func (im *importer) mynetworks() networks {
	const name = "mynetworks"
	p := im.main.lookup(name)
	if p == nil {
		if style := im.value("mynetworks_style"); style != "host" {
			im.note(im.main.lookup("mynetworks_style"), diag.Warning, "postfix-networks",
				"Postfix trusts the networks that this host is in (mynetworks_style = %s): which these are is not known, and only the host itself is carried over", clip(style)).
				Help = []string{"set mynetworks in main.cf to what `postconf mynetworks` prints, and convert again"}
		}
		return networks{"from local", true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
	}
	list := im.prefixes(p, words(im.value(name)))
	n := networks{prefixes: list}
	names := []string{"local"}
	for _, x := range list {
		n.loopback = n.loopback || x.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})) || x.Contains(netip.IPv6Loopback())
		if x.Bits() == 0 {
			im.note(p, diag.Security, "postfix-open-relay", "%v is everybody: Postfix relays for all the world, and so does the result", x)
		}
		names = append(names, address(x))
	}
	if len(list) == 0 {
		return networks{criterion: `from src "local"`}
	}
	// The entry local is for the local socket, and for addresses out of
	// expansions, which Postfix always takes.
	n.criterion = "from src <" + im.list("mynetworks", names) + ">"
	return n
}

// prefixes returns the networks of a list. As in Postfix the first entry that
// an address is in decides, and ! before it means that it is none of ours. An
// entry with a ! that is not understood takes out all that comes after it.
func (im *importer) prefixes(p *param, list []string) []netip.Prefix {
	var nets, out []netip.Prefix
	for _, w := range im.flatten(list) {
		text, not := strings.CutPrefix(w, "!")
		found, why := im.networksOf(text)
		switch {
		case why != "" && not:
			im.netsNote(p, w, why+", so that nothing after it is either")
			return nets
		case why != "":
			im.netsNote(p, w, why)
		}
		if not {
			out = append(out, found...)
			continue
		}
		for _, x := range found {
			left := without([]netip.Prefix{x}, out)
			if len(nets)+len(left) > maxNetworks {
				im.netsNote(p, w, "there are too many networks")
				return nets
			}
			for _, l := range left {
				if !slices.Contains(nets, l) {
					nets = append(nets, l)
				}
			}
		}
	}
	return nets
}

// flatten puts the entries of files in the place of their names.
func (im *importer) flatten(list []string) []string {
	var flat []string
	for _, w := range list {
		text, not := strings.CutPrefix(w, "!")
		var lines []line
		content, ok := []byte(nil), false
		if strings.HasPrefix(text, "/") {
			content, ok = im.readFile(text)
		}
		if ok {
			var err error
			lines, err = logical(text, content)
			ok = err == nil
		}
		if !ok {
			flat = append(flat, w)
			continue
		}
		for _, l := range lines {
			for _, inner := range words(l.text) {
				if not && strings.HasPrefix(inner, "!") {
					inner = inner[1:]
				} else if not {
					inner = "!" + inner
				}
				flat = append(flat, inner)
			}
		}
	}
	return flat
}

// networksOf returns the networks of an entry, and why some of it is missing.
func (im *importer) networksOf(text string) (found []netip.Prefix, why string) {
	if x, ok := prefix(text); ok {
		return []netip.Prefix{x}, ""
	}
	r, isMap := parseMap(text)
	if strings.HasPrefix(text, "/") || isMap && !r.isFile() && r.kind != "cidr" && r.kind != "inline" {
		return nil, "its content is not known"
	}
	if !isMap {
		return nil, "it is no network"
	}
	entries, ok := im.entries(r)
	if !ok {
		return nil, "its content is not known"
	}
	for _, e := range entries {
		if x, ok := prefix(e.Key); ok {
			found = append(found, x)
		} else {
			why = "not all of its entries are networks"
		}
	}
	return found, why
}

func (im *importer) netsNote(p *param, entry, why string) {
	im.note(p, diag.Warning, "postfix-networks", "%q is not carried over into the trusted networks: %s", clip(entry), why)
}

// prefix reads a network of Postfix: 192.0.2.0/24, [2001:db8::]/32 or one
// address.
func prefix(text string) (netip.Prefix, bool) {
	text = strings.NewReplacer("[", "", "]", "").Replace(text)
	x, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		x = netip.PrefixFrom(a, a.BitLen())
	}
	if a := x.Addr(); a.Is4In6() && x.Bits() >= 96 {
		x = netip.PrefixFrom(a.Unmap(), x.Bits()-96)
	}
	return x.Masked(), true
}

// without takes networks out of others.
func without(nets, out []netip.Prefix) []netip.Prefix {
	for _, o := range out {
		var left []netip.Prefix
		for _, n := range nets {
			left = append(left, cut(n, o)...)
		}
		nets = left
		if len(nets) > maxNetworks {
			return nets
		}
	}
	return nets
}

// cut returns the parts of n that are not in o.
func cut(n, o netip.Prefix) []netip.Prefix {
	switch {
	case !n.Overlaps(o):
		return []netip.Prefix{n}
	case o.Bits() <= n.Bits():
		return nil
	}
	var parts []netip.Prefix
	for n.Bits() < o.Bits() {
		low := netip.PrefixFrom(n.Addr(), n.Bits()+1)
		high := netip.PrefixFrom(withBit(n.Addr(), n.Bits()), n.Bits()+1)
		if low.Contains(o.Addr()) {
			n, low = low, high
		} else {
			n = high
		}
		parts = append(parts, low)
	}
	return parts
}

// withBit returns a with a bit set.
func withBit(a netip.Addr, bit int) netip.Addr {
	bytes := a.AsSlice()
	bytes[bit/8] |= 0x80 >> (bit % 8)
	b, _ := netip.AddrFromSlice(bytes)
	return b
}
