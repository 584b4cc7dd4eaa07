// Package certificate checks proofs about rule tables: that no stranger can
// relay by one, or that two decide alike.
//
// A proof is found by a search and checked here. The checker does not search,
// and asks no engine: of what finds proofs it knows only the question (which
// package question defines) and which text of a transaction a criterion looks
// at. It is meant to be read in one sitting, for whoever believes it believes
// all that smtpd-check calls proved. It works within a budget, so that a
// certificate made by an enemy ends with an error and not with a hang.
package certificate

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"

	"smtpd/compile/engine"
)

// Version is the version of certificates that is written and read.
const Version = 2

// The claims.
const (
	Closed = "no stranger can relay"
	Equal  = "no decision changes"
)

// A Certificate proves a claim.
type Certificate struct {
	Version int    `json:"version"`
	Claim   string `json:"claim"`

	// For Closed: whoever relays without a login has one of these addresses,
	// or is of a table that was declared trusted.
	Sources []Range  `json:"sources,omitempty"`
	Trusted []string `json:"trusted,omitempty"`

	// For Equal: the rules that both tables have in common.
	Common []Run `json:"common,omitempty"`

	Proofs []Proof `json:"proofs"`
}

// A Range is addresses, from the first to the last.
type Range struct {
	First netip.Addr `json:"first"`
	Last  netip.Addr `json:"last"`
}

// A Run is rules that follow each other in both tables, counted from 1.
type Run struct {
	Old   int `json:"old"`
	New   int `json:"new"`
	Count int `json:"count"`
}

// A Case is a rule, counted from 1, and which criterion of it asks a table
// that is down; "" is none. Rule 0 is that none matches.
type Case struct {
	Rule  int    `json:"rule"`
	Fails string `json:"fails,omitempty"`
}

// A Proof shows that some transactions cannot be. For Closed these are what a
// stranger sends to Listener, counted from 1, and rule Old relays. For Equal
// they are what rule Old of the old table decides and rule New of the new
// one, while the source Down does not answer.
//
// What is plain needs no proof, and a certificate may leave it out.
type Proof struct {
	Listener int    `json:"listener,omitempty"`
	Down     string `json:"down,omitempty"`
	Old      Case   `json:"old"`
	New      Case   `json:"new,omitzero"`
	Tree     *Node  `json:"tree"`
}

// A Node is about a region: the transactions for which some criteria hold
// and others do not. Either the region is empty, because nothing fits what
// it says of the named part; or an earlier rule takes some of it, and Rest is
// about what it leaves, by the first of its parts that does not hold.
type Node struct {
	Empty string           `json:"empty,omitempty"`
	Taken *Taken           `json:"taken,omitempty"`
	Rest  map[string]*Node `json:"rest,omitempty"`
}

// A Taken is the rule that takes some of a region.
type Taken struct {
	Case
	ByNew bool `json:"by_new,omitempty"` // a rule of the new table
}

// maxSize is how long a certificate may be, in bytes.
const maxSize = 256 << 20

// Read reads a certificate. What it does not know it refuses.
func Read(r io.Reader) (*Certificate, error) {
	d := json.NewDecoder(io.LimitReader(r, maxSize))
	d.DisallowUnknownFields()
	c := new(Certificate)
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("no certificate: %w", err)
	}
	if c.Version != Version {
		return nil, fmt.Errorf("the certificate has version %d, not %d", c.Version, Version)
	}
	return c, nil
}

// partOf returns the part of a rule with a name.
func partOf(name string) (engine.Part, bool) {
	for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
		if p.String() == name {
			return p, true
		}
	}
	return 0, false
}
