package mfa

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"smtpd/compile"
	"smtpd/runtime/filter"
	"smtpd/runtime/imsg"
)

// A programs starts filters that are functions here: each answers the lines
// of the daemon that come after the handshake.
type programs map[string]struct {
	register []string
	answer   func(phase, head, param string) string // head is SESSION|TOKEN
}

func (p programs) Program(_ context.Context, name string) (*os.File, error) {
	conn, theirs, err := imsg.Stream("filter")
	if err != nil {
		return nil, err
	}
	go func() {
		defer conn.Close()
		in := bufio.NewScanner(conn)
		for in.Scan() && in.Text() != "config|ready" {
		}
		for _, r := range p[name].register {
			fmt.Fprintf(conn, "register|%s\n", r)
		}
		fmt.Fprintln(conn, "register|ready")
		for in.Scan() {
			f := strings.SplitN(in.Text(), "|", 8)
			if f[0] == "report" {
				io.WriteString(conn, p[name].answer(f[4], f[5], strings.Join(f[6:], "|")))
			} else {
				io.WriteString(conn, p[name].answer(f[4], f[5]+"|"+f[6], f[7]))
			}
		}
	}()
	return theirs, nil
}

// programAgent runs an agent with these programs in one chain, filter 1.
func programAgent(t *testing.T, p programs, more ...compile.Filter) *agent {
	t.Helper()
	filters := []compile.Filter{{Name: "chain"}}
	for name := range p {
		filters = append(filters, compile.Filter{Name: name, Proc: name})
	}
	slices.SortFunc(filters[1:], func(a, b compile.Filter) int { return strings.Compare(a.Name, b.Name) })
	filters = append(filters, more...)
	for i := range filters[1:] {
		filters[0].Chain = append(filters[0].Chain, compile.FilterID(i+2))
	}
	a := filterAgent(filters...)
	a.starter = p
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, p := range a.programs {
		wg.Go(func() { p.Run(ctx) })
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return a
}

// TestProgramReports has programs report, mark and refuse one after the other,
// and another hear of it.
func TestProgramReports(t *testing.T) {
	heard := make(chan string, 10)
	a := programAgent(t, programs{
		"1": {[]string{"filter|smtp-in|helo", "filter|smtp-in|commit"}, func(phase, head, _ string) string {
			if phase == "commit" {
				return "filter-result|" + head + "|junk\n"
			}
			return "filter-result|" + head + "|report|look|here\n"
		}},
		"2": {[]string{"filter|smtp-in|helo", "report|smtp-in|*"}, func(phase, head, param string) string {
			if phase == "helo" {
				return "filter-result|" + head + "|reject|550 " + param + "\n"
			}
			heard <- phase + "|" + param
			return ""
		}},
	})
	q := sessionRef{1, 0xab}
	w, err := a.open(t.Context(), filter.In, &q)
	if err != nil || !slices.Contains(w.Phases, "commit") || !slices.Contains(w.Events, "tx-mail") {
		t.Fatalf("open: %+v, %v", w, err)
	}
	p := testPhase("helo")
	p.Session.ID = 0xab
	p.Events = []filter.Event{{At: time.Now(), Name: "link-greeting", Text: "mx"}}
	v, err := a.phase(t.Context(), p)
	if err != nil || v.Do != compile.Reject || v.Text != "550 mx.client.net" {
		t.Errorf("verdict %+v, %v", v, err)
	}
	for _, want := range []string{"link-greeting|mx", "filter-report|proc|1|look|here", "filter-response|helo|reject|550 mx.client.net"} {
		if got := <-heard; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	p.Name, p.Events = "commit", nil
	if v, err := a.phase(t.Context(), p); err != nil || v.Do != compile.Junk {
		t.Errorf("junk: %+v, %v", v, err)
	}
	// A session that ended is not asked about any more.
	a.tell(&q, []filter.Event{{Name: "link-disconnect"}})
	if _, err := a.phase(t.Context(), p); err == nil {
		t.Error("a session that ended was asked about")
	}
}

func TestInvalidReply(t *testing.T) {
	for _, reply := range []string{"", "250 ok", "55 no", "5x0 no", "550", "550-no", "550 a\rb", "550 " + strings.Repeat("x", 600)} {
		if got := validReply(reply); got != replyInternal {
			t.Errorf("%.20q is passed on as %q", reply, got)
		}
	}
	if got := validReply("451 4.7.1 later | perhaps"); got != "451 4.7.1 later | perhaps" {
		t.Errorf("became %q", got)
	}
}

// TestProgramMessage passes a message through two programs of three.
func TestProgramMessage(t *testing.T) {
	mark := func(word string) func(phase, head, param string) string {
		return func(_, head, param string) string {
			if param != "." {
				param = word + param
			}
			return "filter-dataline|" + head + "|" + param + "\n"
		}
	}
	a := programAgent(t, programs{
		"1": {[]string{"filter|smtp-in|data-line"}, mark("one ")},
		"2": {[]string{"filter|smtp-in|data"}, nil},
		"3": {[]string{"filter|smtp-in|data-line"}, mark("three ")},
	}, compile.Filter{Name: "builtin", Phase: "data"})
	q := sessionRef{1, 0xab}
	if _, err := a.open(t.Context(), filter.In, &q); err != nil {
		t.Fatal(err)
	}
	var sent, want bytes.Buffer
	for i := range 10000 {
		fmt.Fprintf(&sent, "line %d|\x00\n", i)
		fmt.Fprintf(&want, "three one line %d|\x00\n", i)
	}
	sent.WriteString(".\n")
	want.WriteString(".\n")
	f, err := a.message(t.Context(), &q)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(conn, &sent)
	got, err := io.ReadAll(conn)
	conn.Close()
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes came back, %v; want %d", len(got), err, want.Len())
	}
	// One whose sender is lost leaves nothing behind.
	f, err = a.message(t.Context(), &q)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for {
		f, err := a.message(t.Context(), &q)
		if err == nil {
			f.Close()
			break
		}
		if !strings.Contains(err.Error(), "under way") {
			t.Fatal(err)
		}
	}
}

// TestNobodyWantsMessage has a message come back as it is.
func TestNobodyWantsMessage(t *testing.T) {
	a := programAgent(t, programs{"1": {[]string{"filter|smtp-in|data"}, nil}})
	q := sessionRef{1, 0xab}
	if _, err := a.open(t.Context(), filter.In, &q); err != nil {
		t.Fatal(err)
	}
	if got := passed(t, a, &q, "a\n..b\n.\n"); got != "a\n..b\n.\n" {
		t.Errorf("came back as %q", got)
	}
}

// passed returns what a message comes back as.
func passed(t *testing.T, a *agent, q *sessionRef, text string) string {
	t.Helper()
	f, err := a.message(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.WriteString(conn, text)
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// programPayloads are the messages about programs.
var programPayloads = map[string]func([]byte) ([]byte, error){
	"session":  func(b []byte) ([]byte, error) { var v sessionRef; err := v.parse(b); return v.append(nil), err },
	"wanted":   func(b []byte) ([]byte, error) { var v wanted; err := v.parse(b); return v.append(nil), err },
	"happened": func(b []byte) ([]byte, error) { var v happened; err := v.parse(b); return v.append(nil), err },
}

// FuzzProgramPayload checks that what parses is written back to the same
// bytes.
func FuzzProgramPayload(f *testing.F) {
	f.Add("session", (&sessionRef{1, 2}).append(nil))
	f.Add("wanted", (&wanted{[]string{"tx-mail"}, []string{"helo", "data-line"}}).append(nil))
	f.Add("happened", (&happened{sessionRef{1, 2}, []filter.Event{{At: time.Unix(1, 2), Name: "n", Text: "t"}}}).append(nil))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		parse := programPayloads[name]
		if parse == nil {
			return
		}
		if got, err := parse(b); err == nil && !bytes.Equal(got, b) {
			t.Fatalf("%x became %x", b, got)
		}
	})
}

// TestProgramDown checks what mail gets while a program does not run: what the
// configuration says.
func TestProgramDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, bypass := range []bool{false, true} {
			a := filterAgent(compile.Filter{Name: "p", Proc: "p", Bypass: bypass}) // nobody starts it
			q := sessionRef{1, 0xab}
			begin := time.Now()
			_, err := a.open(t.Context(), filter.In, &q)
			if took := time.Since(begin); (err == nil) != bypass || bypass && took != bypassTime || !bypass && took != openTime {
				t.Errorf("bypass %v: %v after %v", bypass, err, took)
			}
			p := testPhase("helo")
			p.Session.ID = 0xab
			if v, err := a.phase(t.Context(), p); v.Do != 0 || (err == nil) != bypass {
				t.Errorf("bypass %v: %+v, %v", bypass, v, err)
			}
			if _, err := a.stages(t.Context(), &q); (err == nil) != bypass {
				t.Errorf("bypass %v: message: %v", bypass, err)
			}
		}
	})
}

// TestFilterCounts checks what is counted of filters.
func TestFilterCounts(t *testing.T) {
	a := programAgent(t, programs{"counted": {[]string{"filter|smtp-in|helo"}, func(_, head, param string) string {
		if param == "bad" {
			return "filter-result|" + head + "|reject|550 no\n"
		}
		return "filter-result|" + head + "|proceed\n"
	}}})
	q := sessionRef{1, 0xab}
	if _, err := a.open(t.Context(), filter.In, &q); err != nil {
		t.Fatal(err)
	}
	for _, helo := range []string{"good", "bad", "bad"} {
		for _, phase := range []string{"helo", "noop"} {
			p := testPhase(phase)
			p.Session.ID, p.Session.Helo = 0xab, helo
			if _, err := a.phase(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := testPhase("helo")
	p.Session.ID = 0xcd // a stranger
	if _, err := a.phase(t.Context(), p); err == nil {
		t.Error("a stranger was asked about")
	}
	for _, c := range []struct {
		counter *prometheus.CounterVec
		labels  []string
		want    float64
	}{
		{filterRequests, []string{"counted"}, 4},
		{filterDecisions, []string{"counted", "proceed"}, 1},
		{filterDecisions, []string{"counted", "reject"}, 2},
		{filterFailures, []string{"counted"}, 1},
	} {
		var m dto.Metric
		if err := c.counter.WithLabelValues(c.labels...).Write(&m); err != nil || m.GetCounter().GetValue() != c.want {
			t.Errorf("%v: %v, want %v", c.labels, m.GetCounter().GetValue(), c.want)
		}
	}
}
