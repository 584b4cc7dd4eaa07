package mta

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"smtpd/runtime/imsg"
	"smtpd/runtime/queue"
)

// order gives a an order as control does.
func order(t *testing.T, a *agent, o Order) Answer {
	t.Helper()
	var sent Order
	if err := sent.Parse(o.Append(nil)); err != nil || sent != o {
		t.Fatalf("order %+v arrives as %+v, %v", o, sent, err)
	}
	answer, err := a.carryOut(o)
	if err != nil {
		t.Fatal(err)
	}
	var got Answer
	if err := got.parse(answer.append(nil)); err != nil || got != answer {
		t.Fatalf("answer %+v arrives as %+v, %v", answer, got, err)
	}
	return answer
}

func wantLines(t *testing.T, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile("^" + pattern + "$").MatchString(text) {
		t.Errorf("got\n%swant\n%s", text, pattern)
	}
}

// TestShow looks at what the administrator sees of a host that takes mail and
// one that does not answer.
func TestShow(t *testing.T) {
	b := new(remote)
	rs := testRules()
	rs.Actions[0].Relay.Src = 1
	rs.MTA.Limits.SessionKeepalive = 100_000
	a, w := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
	w.fetch = []string{"127.0.0.5"}
	w.mx["dead.example"] = twoMX()
	w.mx["dead.example"][0].Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.9")}
	w.mx["dead.example"] = w.mx["dead.example"][:1]
	deliver(t, a, batch("remote.example", "alice"))
	deliver(t, a, batch("dead.example", "alice"))

	wantLines(t, order(t, a, Order{Verb: ShowHosts}).Text,
		`127\.0\.0\.1 <unknown> refcount=2 nconn=1 lastconn=\d+s\n127\.0\.0\.9 <unknown> refcount=1 nconn=0 lastconn=\d+s\n`)
	wantLines(t, order(t, a, Order{Verb: ShowHostStats}).Text,
		`dead\.example\|\d+\|Network error on destination MXs\nremote\.example\|\d+\|250 2\.0\.0 OK: queued\n`)
	wantLines(t, order(t, a, Order{Verb: ShowRelays}).Text,
		`\[relay:remote\.example,action=relay,smtp\] refcount=1 ntask=0 nconn=1 lastconn=\d+s timeout=- wait=-\n`+
			`  connector 127\.0\.0\.5 refcount=1 nconn=1 lastconn=\d+s timeout=- flags=-\n`)
	wantLines(t, order(t, a, Order{Verb: ShowRoutes}).Text,
		`1\. 127\.0\.0\.5 <-> 127\.0\.0\.1 \(<unknown>\) ---K nconn=1 nerror=0 penalty=0 timeout=-\n`+
			`2\. 127\.0\.0\.5 <-> 127\.0\.0\.9 \(<unknown>\) ND-- nconn=0 nerror=1 penalty=1 timeout=1[45]s\n`)

	if order(t, a, Order{Verb: ResumeRoute, Number: 1}).Changed || order(t, a, Order{Verb: ResumeRoute, Number: 9}).Changed {
		t.Error("a route that is not disabled was resumed")
	}
	if !order(t, a, Order{Verb: ResumeRoute, Number: 2}).Changed || order(t, a, Order{Verb: ResumeRoute, Number: 2}).Changed {
		t.Error("a disabled route was not resumed, or twice")
	}
	if want := `"smtp-out: Enabling route" source=127.0.0.5 host=127.0.0.9`; strings.Count(w.logged(), want) != 1 {
		t.Errorf("no line %q, or more", want)
	}
	wantLines(t, order(t, a, Order{Verb: ShowRoutes}).Text, `1\..*\n2\..* N--- nconn=0 nerror=1 penalty=1 timeout=-\n`)

	var r TLSReport
	if err := json.Unmarshal([]byte(order(t, a, Order{Verb: ShowTLSReports, Domain: "Remote.example"}).Text), &r); err != nil {
		t.Fatal(err)
	}
	if r.ID != time.Now().UTC().Format(time.DateOnly)+"_remote.example" || len(r.Policies) != 1 || r.Policies[0].Counts.Failure != 1 {
		t.Errorf("report %+v", r)
	}
}

// TestPause stops mail from an address for a domain: nothing goes, not over a
// connection that is open either, until it is resumed.
func TestPause(t *testing.T) {
	b := new(remote)
	rs := testRules()
	rs.MTA.Limits.SessionKeepalive = 100_000
	a, _ := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
	deliver(t, a, batch("remote.example", "alice"))
	stop := Order{Verb: Pause, Source: "0.0.0.0", Domain: "Remote.example"}
	if !order(t, a, stop).Changed || order(t, a, stop).Changed {
		t.Error("paused not once")
	}
	order(t, a, Order{Verb: Pause, Source: "[::1]", Domain: "other.example"})
	wantLines(t, order(t, a, Order{Verb: ShowPaused}).Text, `0\.0\.0\.0 -> remote\.example\n::1 -> other\.example\n`)
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.TempFail, "4.3.2", "All routes to destination blocked")
	stop.Verb = Resume
	if !order(t, a, stop).Changed || order(t, a, stop).Changed {
		t.Error("resumed not once")
	}
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "250")
	for _, bad := range []Order{{Verb: Pause, Source: "here", Domain: "a.example"}, {Verb: Pause, Source: "::1"}} {
		if _, err := a.carryOut(bad); err == nil {
			t.Errorf("%+v was carried out", bad)
		}
	}
}

// TestPausedBefore hands out mail and gives an order before mta knows what was
// paused when it last ran: both wait for that.
func TestPausedBefore(t *testing.T) {
	a, w := newTestAgent(t, testRules(), new(remote).start(t, "127.0.0.1:0", nil))
	a.restoring.Add(1)
	go func() {
		defer a.restoring.Done()
		a.restorePauses(t.Context())
	}()
	results, shown := make(chan []queue.Result), make(chan imsg.Message)
	go func() {
		l, err := a.Deliver(t.Context(), batch("remote.example", "alice"))
		if err != nil {
			t.Error(err)
		}
		results <- l
	}()
	go func() {
		o := Order{Verb: ShowPaused}
		m, err := a.orders(t.Context(), imsg.Message{Type: msgOrder, Data: o.Append(nil)})
		if err != nil {
			t.Error(err)
		}
		shown <- m
	}()
	w.paused <- "0.0.0.0 -> remote.example\nnonsense\n::1 -> other.example\n"
	wantOne(t, <-results, queue.TempFail, "4.3.2", "All routes to destination blocked")
	var answer Answer
	if err := answer.parse((<-shown).Data); err != nil || answer.Text != "0.0.0.0 -> remote.example\n::1 -> other.example\n" {
		t.Errorf("%q, %v", answer.Text, err)
	}
	if !strings.Contains(w.logged(), `mail that was paused is sent again" route=nonsense`) {
		t.Errorf("what cannot be read is not logged:\n%s", w.logged())
	}
}

// TestShowIsBounded has more to show than one message holds.
func TestShowIsBounded(t *testing.T) {
	a, _ := newTestAgent(t, testRules(), 1)
	for i := range maxHostStats + 10 {
		a.stats.set(fmt.Sprintf("d%d.example", i), strings.Repeat("x", 200), time.Now())
	}
	text := order(t, a, Order{Verb: ShowHostStats}).Text
	if len(text) > maxShown+10 || !strings.HasSuffix(text, "x\n...\n") {
		t.Errorf("%d bytes, ending in %q", len(text), text[len(text)-20:])
	}
}
