package engine

import (
	"testing"

	"smtpd/compile"
)

func TestComplete(t *testing.T) {
	rs := &compile.Ruleset{
		ServerName: "host.example",
		Listeners:  []compile.Listener{{Tag: "IN", Hostname: "in.example"}, {Tag: "OUT", Hostname: "out.example"}},
		Socket:     compile.Socket{Tag: "LOCAL", Hostname: "socket.example"},
	}
	bob, full := Address{User: "bob"}, Address{User: "a", Domain: "b"}
	tests := []struct {
		name   string
		tx     Transaction
		tagged bool
		want   Transaction
	}{
		{"first listener", Transaction{Kind: FromAddress, Rcpt: bob}, false,
			Transaction{Kind: FromAddress, Tag: "IN", Rcpt: Address{User: "bob", Domain: "in.example"}}},
		{"its own tag", Transaction{Kind: FromAddress, Tag: "OUT", Sender: bob, Rcpt: full}, true,
			Transaction{Kind: FromAddress, Tag: "OUT", Sender: Address{User: "bob", Domain: "out.example"}, Rcpt: full}},
		{"no tag, and meant", Transaction{Kind: FromAddress, Rcpt: bob}, true,
			Transaction{Kind: FromAddress, Rcpt: Address{User: "bob", Domain: "in.example"}}},
		{"socket", Transaction{Kind: FromSocket, Rcpt: bob}, false,
			Transaction{Kind: FromSocket, Tag: "LOCAL", RDNS: "host.example", Rcpt: Address{User: "bob", Domain: "socket.example"}}},
		{"socket with a name", Transaction{Kind: FromSocket, RDNS: "x", Rcpt: full}, false,
			Transaction{Kind: FromSocket, Tag: "LOCAL", RDNS: "x", Rcpt: full}},
		{"out of an expansion", Transaction{Kind: FromInternal, Rcpt: bob}, false,
			Transaction{Kind: FromInternal, Tag: "IN", Rcpt: bob}},
	}
	for _, tt := range tests {
		if tt.tx.Complete(rs, tt.tagged); tt.tx != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, tt.tx, tt.want)
		}
	}
	tx := Transaction{Kind: FromAddress, Rcpt: bob}
	if tx.Complete(&compile.Ruleset{ServerName: "host.example"}, false); tx.Rcpt.Domain != "host.example" || tx.Tag != "" {
		t.Errorf("without listeners: %+v", tx)
	}
}
