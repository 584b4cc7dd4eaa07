package gen3_test

import (
	"testing"

	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/gen3"
)

func TestModernize(t *testing.T) {
	tests := []struct {
		name, before, after string
		opts                gen3.Options
		codes               []diag.Code
	}{
		{name: "set", before: "set bounce warn-interval 1h\nset  queue ttl 4d # keep\n", after: "bounce warn-interval 1h\nqueue ttl 4d # keep\n"},
		{name: "limit", before: "limit smtp max-rcpt 5\nlimit mta for domain x max-conn-per-host 2\n", after: "smtp limit max-rcpt 5\nmta limit for domain x max-conn-per-host 2\n"},
		{name: "builtin", before: "filter f builtin connect !rdns junk\n", after: "filter f phase connect match !rdns junk\n"},
		{name: "socket tag", before: "listen on lo # one\nmatch tag \"Local\" for any reject\n",
			after: "listen on lo # one\nlisten on socket tag \"local\"\nmatch tag \"Local\" for any reject\n", codes: []diag.Code{"migrate-socket-tag"}},
		{name: "socket tag beside options", before: "listen on socket mask-src # s\nmatch tag \"local\" reject\n", opts: gen3.Options{Release: "6.5"},
			after: "listen on socket mask-src tag \"local\" # s\nmatch tag \"local\" reject\n"},
		{name: "later than the socket tag", before: "match tag \"local\" reject\n", opts: gen3.Options{Release: "6.7"}, after: "match tag \"local\" reject\n"},
		{name: "tag of a listener", before: "listen on lo tag local2\nlisten on lo tag \"local\"\nmatch tag \"local\" reject\n",
			after: "listen on lo tag local2\nlisten on lo tag \"local\"\nmatch tag \"local\" reject\n"},
		{name: "capital letters", before: "pki A.example cert \"/c\"\nlisten on lo tls pki A.example\naction \"r\" relay pki A.example\n",
			after: "pki \"a.example\" cert \"/c\"\nlisten on lo tls pki \"a.example\"\naction \"r\" relay pki \"a.example\"\n"},
		{name: "no listener with capital letters", before: "pki A.example cert \"/c\"\n", after: "pki A.example cert \"/c\"\n"},
		{name: "one certificate", before: "pki a.example cert \"/c\"\nlisten on lo tls # x\n",
			after: "pki a.example cert \"/c\"\nlisten on lo tls pki \"a.example\" # x\n", codes: []diag.Code{"migrate-pki"}},
		{name: "no certificate", before: "listen on lo smtps\n",
			after: "pki \"*\" cert \"/etc/ssl/server.crt\"\npki \"*\" key \"/etc/ssl/private/server.key\"\nlisten on lo smtps pki \"*\"\n", codes: []diag.Code{"migrate-no-pki"}},
		{name: "unverified", before: "action \"r\" relay host \"smtps://h\"\naction \"s\" relay host smtp+tls://h ttl 1h\naction \"t\" relay host \"smtp://h\"\n", opts: gen3.Options{Release: "7.0"},
			after: "action \"r\" relay host \"smtps://h\" tls no-verify\naction \"s\" relay host smtp+tls://h tls no-verify ttl 1h\naction \"t\" relay host \"smtp://h\"\n",
			codes: []diag.Code{"migrate-verify", "migrate-verify"}},
		{name: "verified later", before: "action \"r\" relay host \"smtps://h\"\n", opts: gen3.Options{Release: "7.1"}, after: "action \"r\" relay host \"smtps://h\"\n"},
		{name: "backend", before: "table t own:/x\ntable u ldap:/y\n", opts: gen3.Options{Release: "7.4"}, after: "table t own:/x\ntable u ldap:/y\n", codes: []diag.Code{"migrate-backend"}},
		{name: "port smtps is no TLS", before: "listen on lo port smtps\n", after: "listen on lo port smtps\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := lang.Scan("f", lang.Options{Text: []byte(tt.before)})
			edits, notes := gen3.Modernize(s, tt.opts)
			got, err := diag.Apply([]byte(tt.before), edits)
			if err != nil || string(got) != tt.after {
				t.Errorf("%v\ngot:\n%swant:\n%s", err, got, tt.after)
			}
			if len(notes) != len(tt.codes) {
				t.Fatalf("notes %v, want %v", notes, tt.codes)
			}
			for i := range notes {
				if notes[i].Code != tt.codes[i] {
					t.Errorf("note %v, want %s", notes[i], tt.codes[i])
				}
			}
		})
	}
}
