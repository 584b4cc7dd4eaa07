package envelope

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// full returns an envelope in which no field is zero: a field that Append
// forgets comes back zero.
func full(t testing.TB) Envelope {
	t.Helper()
	var e Envelope
	fill(t, reflect.ValueOf(&e).Elem(), 1)
	return e
}

func fill(t testing.TB, v reflect.Value, n int) {
	t.Helper()
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1700000000+int64(n), 5).UTC()))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n+i)
		}
	case v.Kind() == reflect.String:
		v.SetString(strings.Repeat("x", n) + "\r\n\x00é\xff")
	case v.CanUint():
		v.SetUint(1)
	case v.CanInt():
		v.SetInt(int64(n))
	default:
		t.Fatalf("no value for a field of type %v", v.Type())
	}
}

func TestCodecKeepsEveryField(t *testing.T) {
	for name, e := range map[string]Envelope{"zero": {}, "full": full(t)} {
		got, err := Parse(e.Append(nil))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Errorf("%s: (-sent +parsed)\n%s", name, d)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	e := full(t)
	whole := e.Append(nil)
	for n := range whole {
		if _, err := Parse(whole[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("first %d of %d bytes: %v", n, len(whole), err)
		}
	}
	if _, err := Parse(append(whole, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too many: %v", err)
	}
	whole[0] = version + 1
	if _, err := Parse(whole); !errors.Is(err, ErrVersion) {
		t.Errorf("version %d: %v", version+1, err)
	}
}

// FuzzParse checks that what Parse accepts has exactly one encoding.
func FuzzParse(f *testing.F) {
	e := full(f)
	f.Add(e.Append(nil))
	f.Add((&Envelope{}).Append(nil))
	f.Add([]byte{version, 0x80, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		if again := e.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x came back as %x", b, again)
		}
	})
}
