package expand

import (
	"errors"
	"testing"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
)

var srsDay = time.Unix(20000*24*60*60, 0) // stamp 20000 % 1024 = 544 = "RA"

// srs0 makes the address that a relay with srs sends from.
func srs0(key, stamp, user, domain, host string) engine.Address {
	body := stamp + "=" + domain + "=" + user
	return engine.Address{User: "SRS0=" + srsHash(key, body+"@"+host) + "=" + body, Domain: host}
}

func quoted(a engine.Address) engine.Address {
	return engine.Address{User: Quote(a.User), Domain: a.Domain}
}

func TestSRSDecode(t *testing.T) {
	d := NewSRSDecoder(compile.SRS{Key: "secret", Backup: "old", TTL: 4 * 24 * time.Hour})
	good := srs0("secret", "RA", "alice", "example.org", "mx.example")
	inner := srs0("theirs", "RA", "alice", "example.org", "first.example")
	body := "first.example=" + inner.User[len("SRS0"):]
	twice := engine.Address{User: "SRS1=" + srsHash("secret", body+"@mx.example") + "=" + body, Domain: "mx.example"}
	tests := []struct {
		name string
		addr engine.Address
		day  int
		want string
		err  error
	}{
		{"own", good, 0, "alice@example.org", nil},
		{"lower case", engine.Address{User: "srs0" + good.User[4:], Domain: good.Domain}, 0, "alice@example.org", nil},
		{"backup key", srs0("old", "RA", "alice", "example.org", "mx.example"), 0, "alice@example.org", nil},
		{"user with =", srs0("secret", "RA", "a=b", "example.org", "mx.example"), 0, "a=b@example.org", nil},
		{"rewritten twice", twice, 0, inner.User + "@first.example", nil},
		{"last day", good, 5, "alice@example.org", nil},
		{"too old", good, 6, "@", errSRSAge},
		{"from tomorrow", good, -1, "@", errSRSAge},
		{"twice and too old", twice, 6, "@", errSRSAge},
		{"other key", srs0("guess", "RA", "alice", "example.org", "mx.example"), 0, "@", errSRSHash},
		{"other host", engine.Address{User: good.User, Domain: "other.example"}, 0, "@", errSRSHash},
		{"altered", engine.Address{User: good.User + "x", Domain: good.Domain}, 0, "@", errSRSHash},
		{"no hash", engine.Address{User: "SRS0=x", Domain: "mx.example"}, 0, "@", errSRSForm},
		{"no user", srs0("secret", "RA", "", "example.org", "mx.example"), 0, "@", errSRSForm},
		{"a path", srs0("secret", "RA", "../x", "example.org", "mx.example"), 0, "@", errSRSForm},
		{"quoted", quoted(srs0("secret", "RA", "a b", "example.org", "mx.example")), 0, `"a b"@example.org`, nil},
		{"needs quotes", srs0("secret", "RA", "a b", "example.org", "mx.example"), 0, "@", errSRSForm},
		{"internationalized", srs0("secret", "RA", "jos\u00e9", "example.org", "mx.example"), 0, "jos\u00e9@example.org", nil},
		{"bad stamp", srs0("secret", "R1", "alice", "example.org", "mx.example"), 0, "@", errSRSForm},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := d.Decode(tt.addr, srsDay.AddDate(0, 0, tt.day))
			if got.String() != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("decode(%v) = %v, %v; want %s, %v", tt.addr, got, err, tt.want, tt.err)
			}
		})
	}
	if NewSRSDecoder(compile.SRS{}) != nil {
		t.Error("a decoder without a key")
	}
}

func FuzzSRSDecode(f *testing.F) {
	f.Add(srs0("secret", "RA", "alice", "example.org", "mx.example").User)
	f.Add(quoted(srs0("secret", "RA", "a b", "example.org", "mx.example")).User)
	f.Add("SRS1=abcd=host==efgh=RA=example.org=alice")
	d := NewSRSDecoder(compile.SRS{Key: "secret", TTL: 4 * 24 * time.Hour})
	f.Fuzz(func(t *testing.T, user string) {
		if !isSRS(user) {
			return
		}
		got, err := d.Decode(engine.Address{User: user, Domain: "mx.example"}, srsDay)
		if err == nil && (!isRcptUser(got.User) || !IsDomain(got.Domain)) {
			t.Fatalf("%q decodes to %v", user, got)
		}
	})
}
