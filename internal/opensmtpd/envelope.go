package opensmtpd

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"smtpd/runtime/envelope"
)

// An Envelope is one of OpenSMTPD's in our form. Its Action is empty in
// version 2, whose envelopes name no action; its Expires is zero if the
// lifetime is that of the action.
type Envelope struct {
	envelope.Envelope
	Relay string // the host of version 2's relay via, to tell people of
}

// A record is an envelope while it is read.
type record struct {
	ev                *Envelope
	version           int
	ttl               time.Duration
	class, code       int
	method, mdaBuffer string // of version 2
}

// A setter takes the value of a field.
type setter func(r *record, v string) error

// both are the fields that versions 2 and 3 have in common.
var both = map[string]setter{
	"version": func(*record, string) error { return nil }, // it was read first
	"tag":     into(func(r *record) *string { return &r.ev.Tag }),
	"type": func(r *record, v string) (err error) {
		r.ev.Type, err = word(v, map[string]envelope.Type{"mda": envelope.MDA, "mta": envelope.MTA, "bounce": envelope.Bounce})
		return err
	},
	"smtpname":    into(func(r *record) *string { return &r.ev.SMTPName }),
	"helo":        into(func(r *record) *string { return &r.ev.Helo }),
	"hostname":    into(func(r *record) *string { return &r.ev.RDNS }),
	"errorline":   into(func(r *record) *string { return &r.ev.Error }),
	"sockaddr":    setSource,
	"sender":      address(func(r *record) *envelope.Address { return &r.ev.Sender }),
	"rcpt":        address(func(r *record) *envelope.Address { return &r.ev.Rcpt }),
	"dest":        address(func(r *record) *envelope.Address { return &r.ev.Dest }),
	"ctime":       moment(func(r *record) *time.Time { return &r.ev.Created }),
	"last-try":    moment(func(r *record) *time.Time { return &r.ev.LastTry }),
	"last-bounce": moment(func(r *record) *time.Time { return &r.ev.LastBounce }),
	"retry": func(r *record, v string) error {
		n, err := strconv.ParseUint(v, 10, 16)
		r.ev.Tries = uint32(n)
		return err
	},
	"flags": setFlags,
	"dsn-notify": func(r *record, v string) error {
		n, err := strconv.ParseUint(v, 10, 4)
		r.ev.Notify = envelope.Notify(n)
		return err
	},
	"dsn-ret": func(r *record, v string) (err error) {
		r.ev.Ret, err = word(strings.ToUpper(v), map[string]string{"FULL": "FULL", "HDRS": "HDRS"})
		return err
	},
	"dsn-envid": into(func(r *record) *string { return &r.ev.EnvID }),
	"dsn-orcpt": func(r *record, v string) error {
		r.ev.ORcpt = "rfc822;" + xtext(v) // only the address is kept
		return nil
	},
	"esc-class":    integer(func(r *record) *int { return &r.class }, 9),
	"esc-code":     integer(func(r *record) *int { return &r.code }, 99),
	"mda-user":     into(func(r *record) *string { return &r.ev.LocalUser }),
	"bounce-delay": seconds(func(r *record) *time.Duration { return &r.ev.BounceDelay }),
	"bounce-type": func(r *record, v string) (err error) {
		r.ev.BounceKind, err = word(v, map[string]envelope.BounceKind{
			"failed": envelope.Failed, "error": envelope.Failed, "delayed": envelope.Delayed, "warn": envelope.Delayed,
			"delivered": envelope.Delivered, "dsn": envelope.Delivered,
		})
		return err
	},
}

// only are the fields of one version.
var only = map[int]map[string]setter{
	2: {
		"expire":              seconds(func(r *record) *time.Duration { return &r.ttl }),
		"bounce-expire":       ignored,
		"mda-buffer":          into(func(r *record) *string { return &r.mdaBuffer }),
		"mda-method":          into(func(r *record) *string { return &r.method }),
		"mda-usertable":       ignored, // all of these are the business of the action now
		"mda-delivery-user":   ignored,
		"mta-relay":           into(func(r *record) *string { return &r.ev.Relay }),
		"mta-relay-auth":      ignored,
		"mta-relay-cert":      ignored,
		"mta-relay-ca":        ignored,
		"mta-relay-flags":     ignored,
		"mta-relay-heloname":  ignored,
		"mta-relay-helotable": ignored,
		"mta-relay-source":    ignored,
	},
	3: {
		"dispatcher":     into(func(r *record) *string { return &r.ev.Action }),
		"username":       into(func(r *record) *string { return &r.ev.User }),
		"ttl":            seconds(func(r *record) *time.Duration { return &r.ttl }),
		"mda-exec":       setExec,
		"mda-subaddress": into(func(r *record) *string { return &r.ev.SubAddress }),
		"bounce-ttl":     ignored,
	},
}

func ignored(*record, string) error { return nil }

func into(field func(*record) *string) setter {
	return func(r *record, v string) error {
		*field(r) = v
		return nil
	}
}

func address(field func(*record) *envelope.Address) setter {
	return func(r *record, v string) error {
		if !strings.Contains(v, "@") {
			return errors.New("no address")
		}
		*field(r) = envelope.ParseAddress(v)
		return nil
	}
}

func number(v string, limit int64) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > limit {
		return 0, errors.New("no number that can be")
	}
	return n, nil
}

// maxSeconds is within what times of the queue can hold: the year 2242.
const maxSeconds = 1 << 33

func moment(field func(*record) *time.Time) setter {
	return func(r *record, v string) error {
		n, err := number(v, maxSeconds)
		if n != 0 {
			*field(r) = time.Unix(n, 0).UTC()
		}
		return err
	}
}

func seconds(field func(*record) *time.Duration) setter {
	return func(r *record, v string) error {
		n, err := number(v, maxSeconds)
		*field(r) = time.Duration(n) * time.Second
		return err
	}
}

func integer(field func(*record) *int, limit int64) setter {
	return func(r *record, v string) error {
		n, err := number(v, limit)
		*field(r) = int(n)
		return err
	}
}

func word[T any](v string, values map[string]T) (T, error) {
	t, ok := values[v]
	if !ok {
		return t, errors.New("an unknown word")
	}
	return t, nil
}

func setSource(r *record, v string) error {
	if v == "local" {
		r.ev.Source = v
		return nil
	}
	text := strings.Trim(v, "[]")
	if len(v) > 5 && strings.EqualFold(v[:5], "IPv6:") {
		text = v[5:]
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return errors.New("no address")
	}
	if r.ev.Source = a.String(); !a.Is4() {
		r.ev.Source = "[" + a.String() + "]"
	}
	return nil
}

func setFlags(r *record, v string) error {
	for _, f := range strings.FieldsFunc(v, func(c rune) bool { return strings.ContainsRune(" ,|", c) }) {
		flag, err := word(f, map[string]envelope.Flags{
			"authenticated": envelope.Authenticated, "bounce": envelope.IsBounce, "internal": envelope.Internal, "enqueued": 0,
		})
		if err != nil {
			return err
		}
		r.ev.Flags |= flag
	}
	return nil
}

// mboxCommand is how OpenSMTPD says that an alias or a .forward names a file.
var mboxCommand = regexp.MustCompile(`^/\S+/mail\.mboxfile -f %\{mbox\.from\} (.+)$`)

func setExec(r *record, v string) error {
	if v == "" {
		return nil
	}
	r.ev.Execute, r.ev.Exec = envelope.Command, v
	if m := mboxCommand.FindStringSubmatch(v); m != nil {
		r.ev.Execute, r.ev.Exec = envelope.File, m[1]
	}
	return nil
}

// ParseEnvelope reads the text of an envelope, but for its id.
func ParseEnvelope(b []byte) (*Envelope, error) {
	fields, err := split(string(b))
	if err != nil {
		return nil, err
	}
	r := &record{ev: new(Envelope)}
	for _, f := range fields {
		if f[0] == "version" {
			r.version, _ = strconv.Atoi(f[1])
		}
	}
	if only[r.version] == nil {
		return nil, errors.New("not an envelope of version 2 or 3")
	}
	for _, f := range fields {
		set := both[f[0]]
		if set == nil {
			set = only[r.version][f[0]]
		}
		if set == nil {
			return nil, fmt.Errorf("field %q is unknown in version %d", f[0], r.version)
		}
		if err := set(r, f[1]); err != nil {
			return nil, fmt.Errorf("field %q: %w", f[0], err)
		}
	}
	return r.ev, r.finish()
}

// split returns the names and values of the lines of an envelope.
func split(text string) (fields [][2]string, err error) {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, errors.New("a line without a name")
		}
		fields = append(fields, [2]string{strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)})
	}
	return fields, nil
}

// finish works out what several fields say together.
func (r *record) finish() error {
	ev := r.ev
	switch {
	case ev.Type == 0:
		return errors.New("field \"type\" is missing")
	case ev.Created.IsZero():
		return errors.New("field \"ctime\" is missing")
	case ev.Dest.IsNull():
		return errors.New("field \"dest\" is missing")
	case ev.Type == envelope.Bounce && ev.BounceKind == 0:
		return errors.New("field \"bounce-type\" is missing")
	}
	if r.ttl != 0 && ev.Type != envelope.Bounce {
		ev.Expires = ev.Created.Add(r.ttl)
	}
	if r.class != 0 {
		ev.Status = fmt.Sprintf("%d.%d.%d", r.class, r.code/10, r.code%10)
	}
	switch r.method {
	case "filename":
		ev.Execute, ev.Exec = envelope.File, r.mdaBuffer
	case "mda":
		ev.Execute, ev.Exec = envelope.Command, r.mdaBuffer
	}
	return nil
}

// xtext encodes as RFC 3461, section 4 wants it.
func xtext(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
