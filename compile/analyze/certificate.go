package analyze

// CertificateVersion is the version of certificates that is written and
// read.
const CertificateVersion = 1

// A Certificate proves that no stranger can relay. For every relaying rule
// and every listener that strangers reach it shows that whatever of the
// strangers' transactions the rule matches, a rule before it decides.
type Certificate struct {
	Version int     `json:"version"`
	Proofs  []Proof `json:"proofs"`
}

// A Proof is about one relaying rule and one listener, counted from 1.
type Proof struct {
	Rule     int   `json:"rule"`
	Listener int   `json:"listener"`
	Tree     *Node `json:"tree"`
}

// A Node is about a region: the transactions for which some criteria hold
// and others do not. Either the region is empty, because nothing fits what
// it says of one part; or a rule before the relaying one covers some of it,
// and Rest is about what it leaves, by the first of its parts that does not
// hold.
type Node struct {
	Empty string           `json:"empty,omitempty"`
	Rule  int              `json:"covered_by,omitempty"` // counted from 1
	Rest  map[string]*Node `json:"rest,omitempty"`
}
