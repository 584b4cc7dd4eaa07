package compile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
)

// The encoding of a Ruleset: a magic word, a version, and the fields of the
// struct in their order. Integers are varints, strings and slices have their
// length in front. It is derived from the types by reflection, so a field
// that is added is sent as well; who adds one raises the version.
const (
	codecMagic   = "smtpd-rules"
	codecVersion = 6
)

// ErrEncoding is what Decode returns for anything that Append did not make.
var ErrEncoding = errors.New("not an encoded ruleset of this version")

// Append appends the encoded Ruleset to b.
func (rs *Ruleset) Append(b []byte) []byte {
	b = append(b, codecMagic...)
	b = append(b, codecVersion)
	return appendValue(b, reflect.ValueOf(rs).Elem())
}

// Decode returns the Ruleset that Append encoded. The input may come from
// anywhere: it never takes more memory than a small multiple of its length,
// and what it returns names nothing that is not there.
func Decode(b []byte) (*Ruleset, error) {
	head := len(codecMagic) + 1
	if len(b) < head || string(b[:head-1]) != codecMagic || b[head-1] != codecVersion {
		return nil, ErrEncoding
	}
	d := decoder{rest: b[head:]}
	rs := new(Ruleset)
	d.value(reflect.ValueOf(rs).Elem())
	if d.failed || len(d.rest) > 0 {
		return nil, ErrEncoding
	}
	if err := rs.valid(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	return rs, nil
}

var addrType = reflect.TypeFor[netip.Addr]()

func appendValue(b []byte, v reflect.Value) []byte {
	if v.Type() == addrType {
		raw, err := v.Interface().(netip.Addr).MarshalBinary()
		if err != nil {
			panic(err) // documented never to happen
		}
		b = binary.AppendUvarint(b, uint64(len(raw)))
		return append(b, raw...)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			b = appendValue(b, v.Field(i))
		}
	case reflect.Slice:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		for i := range v.Len() {
			b = appendValue(b, v.Index(i))
		}
	case reflect.String:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		b = append(b, v.String()...)
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		b = append(b, 0)
	case reflect.Int, reflect.Int64:
		b = binary.AppendVarint(b, v.Int())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		b = binary.AppendUvarint(b, v.Uint())
	default:
		panic("compile: no encoding for " + v.Type().String())
	}
	return b
}

// A decoder takes values off the front of rest. After a failure it does
// nothing more.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) value(v reflect.Value) {
	if d.failed {
		return
	}
	if v.Type() == addrType {
		var a netip.Addr
		if a.UnmarshalBinary(d.bytes()) != nil {
			d.failed = true
		}
		v.Set(reflect.ValueOf(a))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			d.value(v.Field(i))
		}
	case reflect.Slice:
		d.slice(v)
	case reflect.String:
		v.SetString(string(d.bytes()))
	case reflect.Bool:
		n := d.uint()
		d.failed = d.failed || n > 1
		v.SetBool(n == 1)
	case reflect.Int, reflect.Int64:
		n := d.int()
		d.failed = d.failed || v.OverflowInt(n)
		v.SetInt(n)
	default:
		n := d.uint()
		d.failed = d.failed || v.OverflowUint(n)
		v.SetUint(n)
	}
}

// slice decodes a slice. Its length is believed only as far as the rest of
// the input can hold that many elements.
func (d *decoder) slice(v reflect.Value) {
	n := d.uint()
	if d.failed || n == 0 {
		return
	}
	if n > uint64(len(d.rest)/minSize(v.Type().Elem())) {
		d.failed = true
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), int(n), int(n)))
	for i := range int(n) {
		d.value(v.Index(i))
	}
}

// minSize returns the least number of bytes that a value of type t takes.
func minSize(t reflect.Type) int {
	if t == addrType || t.Kind() != reflect.Struct {
		return 1
	}
	n := 0
	for i := range t.NumField() {
		n += minSize(t.Field(i).Type)
	}
	return n
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.rest)
	return n * uint64(d.skip(size))
}

func (d *decoder) int() int64 {
	n, size := binary.Varint(d.rest)
	return n * int64(d.skip(size))
}

// skip steps over a varint and returns 1, or 0 if there is none.
func (d *decoder) skip(size int) int {
	if size <= 0 {
		d.failed = true
		return 0
	}
	d.rest = d.rest[size:]
	return 1
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

// valid reports an id or an enumerated value that a Ruleset cannot have.
func (rs *Ruleset) valid() error {
	limits := map[reflect.Type]uint64{
		reflect.TypeFor[TableID]():     uint64(len(rs.Tables)),
		reflect.TypeFor[ActionID]():    uint64(len(rs.Actions)),
		reflect.TypeFor[FilterID]():    uint64(len(rs.Filters)),
		reflect.TypeFor[Kind]():        uint64(Empty),
		reflect.TypeFor[Sign]():        uint64(Not),
		reflect.TypeFor[FromKind]():    uint64(FromRDNS),
		reflect.TypeFor[ForKind]():     uint64(ForDomain),
		reflect.TypeFor[Method]():      uint64(Relay),
		reflect.TypeFor[TLSMode]():     uint64(SMTPS),
		reflect.TypeFor[AuthMode]():    uint64(RequireAuth),
		reflect.TypeFor[FilterField](): uint64(FieldRcptTo),
		reflect.TypeFor[Verdict]():     uint64(Bypass),
	}
	if err := within(limits, reflect.ValueOf(rs).Elem()); err != nil {
		return err
	}
	if rs.Local == 0 || rs.LocalNames == 0 || rs.AnyHost == 0 || rs.AnyDest == 0 {
		return errors.New("a built-in table is missing")
	}
	return rs.complete()
}

// within checks every value in v whose type has a limit.
func within(limits map[reflect.Type]uint64, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == addrType {
			return nil
		}
		for i := range v.NumField() {
			if err := within(limits, v.Field(i)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := within(limits, v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		if limit, ok := limits[v.Type()]; ok && v.Uint() > limit {
			return fmt.Errorf("%v %d is over %d", v.Type(), v.Uint(), limit)
		}
	}
	return nil
}

// complete checks that what is always set is set, and that chains end.
func (rs *Ruleset) complete() error {
	for i := range rs.Rules {
		if r := &rs.Rules[i]; r.From.Kind == 0 || r.For.Kind == 0 {
			return fmt.Errorf("rule %d has no from or for", i)
		}
	}
	for i := range rs.Tables {
		if rs.Tables[i].Kind == 0 {
			return fmt.Errorf("table %d has no kind", i+1)
		}
	}
	for i := range rs.Actions {
		if a := &rs.Actions[i]; a.Method == 0 || a.TTL <= 0 {
			return fmt.Errorf("action %d has no method or no lifetime", i+1)
		}
	}
	for i := range rs.Filters {
		for _, m := range rs.Filters[i].Chain {
			if m == 0 || rs.Filters[m-1].Chain != nil {
				return fmt.Errorf("filter %d has a member that cannot be one", i+1)
			}
		}
	}
	return nil
}
