package engine

import (
	"cmp"

	"smtpd/compile"
)

// Complete fills in what a session has by itself, for whoever describes a
// transaction in few words: the tag of the socket or of the first listener,
// unless tagged says that it has one; on the socket the name of this host as
// the reverse name; and the listener's host name as the domain of an address
// that has none, as the server adds it.
func (tx *Transaction) Complete(rs *compile.Ruleset, tagged bool) {
	hostname := rs.Socket.Hostname
	switch socket := tx.Kind == FromSocket; {
	case socket && !tagged:
		tx.Tag = rs.Socket.Tag
	case !socket && !tagged && len(rs.Listeners) > 0:
		tx.Tag = rs.Listeners[0].Tag
	}
	if tx.Kind == FromSocket {
		tx.RDNS = cmp.Or(tx.RDNS, rs.ServerName)
	} else if l := ListenerOf(rs, tx.Tag); l != nil {
		hostname = l.Hostname
	}
	if tx.Kind == FromInternal {
		return
	}
	for _, a := range []*Address{&tx.Sender, &tx.Rcpt} {
		if a.User != "" && a.Domain == "" {
			a.Domain = cmp.Or(hostname, rs.ServerName)
		}
	}
}

// ListenerOf returns the first listener with a tag, or else the first one;
// nil if there is none.
func ListenerOf(rs *compile.Ruleset, tag string) *compile.Listener {
	for i := range rs.Listeners {
		if rs.Listeners[i].Tag == tag {
			return &rs.Listeners[i]
		}
	}
	if len(rs.Listeners) > 0 {
		return &rs.Listeners[0]
	}
	return nil
}
