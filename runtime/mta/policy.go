package mta

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"smtpd/runtime/lka"
)

// A policy is what decides how TLS is done with a host. docs/tls.md has the
// table of which one applies.
type policy uint8

const (
	policyNone          policy = iota + 1 // the destination says to do without
	policyOpportunistic                   // nothing asks for it
	policyTesting                         // MTA-STS in mode testing: opportunistic, but it is told what would fail
	policyNoVerify                        // the action asks for TLS with anyone
	policyTLS                             // the action asks for TLS with the host itself
	policySTS                             // MTA-STS in mode enforce
	policyDANE                            // TLSA records
	policyDANEUnusable                    // TLSA records of which none can be used
)

// policyNames are what logs show.
var policyNames = [...]string{"-", "none", "opportunistic", "sts-testing", "tls-no-verify", "tls", "sts", "dane", "dane-unusable"}

func (p policy) String() string { return policyNames[p] }

// A demand is what a session must come to before mail is entrusted to it.
type demand struct {
	policy   policy
	required bool   // nothing is said in clear
	verify   bool   // the certificate is that of the host, by an authority
	dane     *tlsas // the certificate is one of these; then verify is not asked
}

// metBy reports whether a session has come to what d asks for. It goes to the
// same host, under the same action.
func (d demand) metBy(s *session) bool {
	switch {
	case d.policy == policyNone:
		return !s.tls
	case d.dane != nil:
		return s.proof == proofDANE && s.demand.dane != nil && s.demand.dane.equal(d.dane)
	case d.verify:
		return s.proof == proofPKIX
	}
	return s.tls || !d.required
}

// demandOf returns what is asked of TLS with host c. An error means that it is
// not known, and so the host cannot be used.
func (a *agent) demandOf(ctx context.Context, r *relay, c *candidate) (demand, error) {
	m, o := r.dest.mode, &r.action.Relay
	switch {
	case m == plain || m == lmtp:
		return demand{policy: policyNone}, nil
	case m.secure() && o.NoVerify:
		return demand{policy: policyNoVerify, required: true}, nil
	}
	d := demand{policy: policyOpportunistic}
	switch {
	case c.sts != nil && c.sts.Mode == lka.STSEnforce:
		d = demand{policy: policySTS, required: true, verify: true}
	case m.secure():
		d = demand{policy: policyTLS, required: true, verify: true}
	case c.sts != nil:
		d.policy = policyTesting
	}
	var found *tlsas
	if c.secure && (o.CA == "" || !m.secure()) {
		var err error
		if found, err = a.findTLSA(ctx, r, c); err != nil {
			return d, err
		}
	}
	switch {
	case found != nil && len(found.usable) > 0:
		return demand{policy: policyDANE, required: true, dane: found}, nil
	case d.policy == policySTS && !c.listed:
		return d, &policyError{policySTS, resultFailure, errNotListed}
	case found != nil && !d.verify: // RFC 7672, section 2.2: they ask for TLS all the same
		return demand{policy: policyDANEUnusable, required: true}, nil
	}
	return d, nil
}

// A policyError says that a host does not come up to what is asked of it. Mail
// then waits: the host, or the policy, may change.
type policyError struct {
	policy policy
	result string // in the words of reports (RFC 8460, section 4.3)
	err    error
}

func (e *policyError) Error() string {
	return fmt.Sprintf("TLS policy %s is not met: %v", e.policy, e.err)
}

func (e *policyError) Unwrap() error { return e.err }

// Results of TLS in the words of reports (RFC 8460, section 4.3).
const (
	resultNoSTARTTLS = "starttls-not-supported"
	resultMismatch   = "certificate-host-mismatch"
	resultExpired    = "certificate-expired"
	resultUntrusted  = "certificate-not-trusted"
	resultFailure    = "validation-failure"
	resultNoDNSSEC   = "dnssec-invalid"
)

// policed returns those of hosts that the MTA-STS policy of r's domain lets
// mail go to.
func (a *agent) policed(ctx context.Context, r *relay, hosts []candidate) ([]candidate, error) {
	if r.dest.mode != opportunistic && r.dest.mode != startTLS || !r.dest.byMX || r.action.Relay.NoVerify {
		return hosts, nil
	}
	sts, err := a.tables.STS(ctx, r.dest.name)
	if err != nil {
		return nil, unanswered(err, "4.4.3", "Temporary failure in lookup of MTA-STS policy")
	}
	if sts.Problem != "" {
		a.reports.add(r.dest.name, describeSTS(&sts.Policy), tlsFailure{Result: sts.Problem})
	}
	if !sts.Found {
		return hosts, nil
	}
	for i := range hosts {
		hosts[i].sts, hosts[i].listed = &sts.Policy, sts.Policy.Matches(hosts[i].host)
		if !hosts[i].listed {
			a.reports.add(r.dest.name, describeSTS(&sts.Policy),
				tlsFailure{Result: resultFailure, MX: hosts[i].host, Reason: errNotListed.Error()})
		}
	}
	if sts.Policy.Mode != lka.STSEnforce {
		return hosts, nil
	}
	// A host that DANE vouches for is not for MTA-STS to refuse: who makes the
	// records of the one makes those of the other, and signs them.
	left := slices.DeleteFunc(hosts, func(c candidate) bool { return !c.listed && !c.secure })
	if len(left) == 0 {
		return nil, &failure{status: "4.7.5", text: "MTA-STS policy of " + r.dest.name + " allows none of its mail exchangers", policy: policySTS}
	}
	return left, nil
}

var errNotListed = errors.New("the host is not in the policy of the domain")
