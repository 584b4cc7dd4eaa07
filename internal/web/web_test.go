package web

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"smtpd/compile/engine"
	"smtpd/runtime/control"
	"smtpd/runtime/envelope"
	"smtpd/runtime/mfa"
	"smtpd/runtime/queue"
)

// hostile is what a stranger may send as an address, a greeting or a reply.
const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`

// A fakeDaemon has a queue of n messages, and does what it is told.
type fakeDaemon struct {
	n    int
	down error

	mu    sync.Mutex
	done  []string
	lists int
}

func (d *fakeDaemon) Status() (control.Status, error) {
	return control.Status{PID: 7, Version: "smtpd test", Started: time.Now().Add(-time.Hour), MTA: true}, d.down
}

func (d *fakeDaemon) Metrics(w io.Writer) error {
	_, err := fmt.Fprintf(w, `# TYPE smtpd_queue_envelopes gauge
smtpd_queue_envelopes %d
# TYPE smtpd_table_lookups_total counter
smtpd_table_lookups_total{table="aliases"} 12
# TYPE smtpd_table_errors_total counter
smtpd_table_errors_total{table="aliases"} 3
# TYPE smtpd_mfa_filter_requests_total counter
smtpd_mfa_filter_requests_total{filter="rspamd"} 5
# TYPE smtpd_mfa_filter_decisions_total counter
smtpd_mfa_filter_decisions_total{filter="rspamd",decision="junk"} 2
# TYPE smtpd_certificate_expiry_timestamp_seconds gauge
smtpd_certificate_expiry_timestamp_seconds{pki="mx",subject="mx.example.org"} %d
`, d.n, time.Now().Add(60*time.Hour).Unix())
	return err
}

func (d *fakeDaemon) Rules() ([]control.RuleCount, error) {
	return []control.RuleCount{{RuleName: mfa.RuleName{Label: "smtpd.conf:3", Text: "match from any helo " + hostile + " reject"}, Hits: 1234567}}, nil
}

func (d *fakeDaemon) decided() mfa.Decided {
	return mfa.Decided{
		Number: 3, At: time.Now(), Source: "192.0.2.1", Helo: hostile, Sender: envelope.Address{User: hostile, Domain: "example.org"},
		Rcpt: envelope.Address{User: "you", Domain: "example.com"}, Outcome: engine.Reject, Rule: mfa.RuleName{Label: "smtpd.conf:3", Text: hostile},
	}
}

func (d *fakeDaemon) Recent() ([]mfa.Decided, error) { return []mfa.Decided{d.decided()}, nil }

func (d *fakeDaemon) Explain(n uint64) (*mfa.Explanation, error) {
	if n != 3 {
		return nil, control.Refusal("not remembered")
	}
	return &mfa.Explanation{Decided: d.decided(), Passed: []mfa.Passed{{Rule: mfa.RuleName{Text: hostile}, Criterion: "for domain <vip>", Value: hostile}}}, nil
}

func (d *fakeDaemon) List(sel queue.Selection) iter.Seq2[queue.Listed, error] {
	d.mu.Lock()
	d.lists++
	d.mu.Unlock()
	return func(yield func(queue.Listed, error) bool) {
		for i := range d.n {
			id := envelope.ID(i+1)<<32 | 1
			if !sel.Holds(id) {
				continue
			}
			ev := envelope.Envelope{
				ID: id, Type: envelope.MTA, Sender: envelope.Address{User: hostile, Domain: "example.org"},
				Dest: envelope.Address{User: "you", Domain: fmt.Sprintf("d%d.example", i)}, Helo: hostile, Error: "451 " + hostile, Tries: 1,
				Created: time.Now().Add(-95 * time.Minute), NextTry: time.Now().Add(time.Hour), Source: "192.0.2.1", RDNS: hostile,
			}
			if !yield(queue.Listed{Envelope: ev, Why: hostile}, nil) {
				return
			}
		}
	}
}

// ListSized has a large message every other time.
func (d *fakeDaemon) ListSized(sel queue.Selection) iter.Seq2[queue.Listed, error] {
	return func(yield func(queue.Listed, error) bool) {
		for l, err := range d.List(sel) {
			l.Size = int64(l.Envelope.ID.Message()%2) * 10 << 20
			if !yield(l, err) {
				return
			}
		}
	}
}

func (d *fakeDaemon) Manage(verb queue.Verb, sel queue.Selection) (int, error) {
	return d.note("manage %d %v", verb, sel.Envelope)
}

func (d *fakeDaemon) Pause(s control.System, on bool) (bool, error) {
	_, err := d.note("pause %v %v", s, on)
	return true, err
}

func (d *fakeDaemon) note(format string, args ...any) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, fmt.Sprintf(format, args...))
	return 1, nil
}

func (d *fakeDaemon) Close() error { return nil }

var testTokens = Tokens{Read: "reader-token", Change: "writer-token"}

// newTestServer serves d.
func newTestServer(d *fakeDaemon, change func(c *Config)) *server {
	c := Config{
		Dial: func() (Daemon, error) { return d, d.down }, Tokens: testTokens, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	return newServer(c)
}

// A visitor sends requests as a browser does that has a cookie.
type visitor struct {
	server *server
	cookie *http.Cookie
}

func (v *visitor) do(method, target string, form url.Values, change ...func(r *http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:8025"+target, strings.NewReader(form.Encode()))
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if v.cookie != nil {
		r.AddCookie(v.cookie)
	}
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	v.server.ServeHTTP(w, r)
	return w
}

// enter opens the address with a token.
func enter(t *testing.T, s *server, token string) *visitor {
	t.Helper()
	v := &visitor{server: s}
	w := v.do("GET", "/enter?token="+token, nil)
	cookies := w.Result().Cookies()
	if w.Code != http.StatusOK || len(cookies) != 1 {
		t.Fatalf("entered with %d and %d cookies", w.Code, len(cookies))
	}
	if c := cookies[0]; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || strings.Contains(c.Value, token) {
		t.Errorf("the cookie is %v", c)
	}
	v.cookie = cookies[0]
	return v
}

var allPages = []string{
	"/", "/queue", "/envelopes", "/envelopes?where=" + url.QueryEscape(hostile), "/message/00000001", "/deliveries", "/deliveries?span=6h", "/rules", "/decision/3",
	"/tables", "/filters", "/certificates",
}

// TestNoToken checks that nothing is told to who has no token, a wrong one, or
// one that is signed by another.
func TestNoToken(t *testing.T) {
	d := &fakeDaemon{n: 3}
	s := newTestServer(d, nil)
	other := Tokens{Read: "another", Change: "others"}
	later := time.Now().Add(-2 * visitTime)
	for name, v := range map[string]*visitor{
		"nothing": {server: s}, "rubbish": {s, &http.Cookie{Name: "smtpctl", Value: "2.99999999999.00"}},
		"of another server": {s, &http.Cookie{Name: "smtpctl", Value: other.cookie(changes, time.Now())}},
		"old":               {s, &http.Cookie{Name: "smtpctl", Value: testTokens.cookie(reads, later)}},
	} {
		for _, page := range append(allPages, "/nowhere") {
			w := v.do("GET", page, nil)
			if w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "example") || w.Header().Get("Set-Cookie") != "" {
				t.Errorf("%s: GET %s: %d\n%s", name, page, w.Code, w.Body)
			}
		}
	}
	for _, token := range []string{"", "wrong", "reader-tokenx"} {
		if w := (&visitor{server: s}).do("GET", "/enter?token="+token, nil); w.Code != http.StatusUnauthorized || len(w.Result().Cookies()) > 0 {
			t.Errorf("token %q: %d", token, w.Code)
		}
	}
	if d.lists > 0 {
		t.Error("the daemon was asked")
	}
}

// TestPages checks that every page shows what strangers chose as text, under a
// policy that would not run it, and has no script of its own but one file.
func TestPages(t *testing.T) {
	v := enter(t, newTestServer(&fakeDaemon{n: 3}, nil), testTokens.Read)
	for _, page := range allPages {
		w := v.do("GET", page, nil)
		body := w.Body.String()
		if w.Code != http.StatusOK {
			t.Errorf("GET %s: %d\n%s", page, w.Code, body)
		}
		if foreign := foreignMarkup(body); foreign != "" {
			t.Errorf("GET %s has markup of a stranger: %s", page, foreign)
		}
		if strings.Contains(body, `method="post"`) {
			t.Errorf("GET %s offers changes", page)
		}
		csp := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: %v", page, w.Header())
		}
	}
}

// foreignMarkup returns the first tag of a page that no page of ours has.
func foreignMarkup(page string) string {
	for z := html.NewTokenizer(strings.NewReader(page)); z.Next() != html.ErrorToken; {
		tag := z.Token()
		if tag.Type != html.StartTagToken && tag.Type != html.SelfClosingTagToken {
			continue
		}
		foreign := tag.Data == "img" || tag.Data == "script" && (len(tag.Attr) == 0 || tag.Attr[0].Val != "/assets/page.js")
		for _, a := range tag.Attr {
			foreign = foreign || strings.HasPrefix(a.Key, "on") || a.Key == "style"
		}
		if foreign {
			return tag.String()
		}
	}
	return ""
}

// TestPagesSay checks what the pages are there for.
func TestPagesSay(t *testing.T) {
	v := enter(t, newTestServer(&fakeDaemon{n: 3}, nil), testTokens.Read)
	for page, wants := range map[string][]string{
		"/":                  {"The certificate of pki mx expires in 2 d", "Table aliases could not answer 3 of 12 questions", "paused"},
		"/queue":             {"3 envelopes by destination", "d2.example", "1 h 3"},
		"/envelopes":         {"3 envelopes", `/message/00000002`},
		"/message/00000002":  {"Why it waits", "you@<wbr>d1.example", "192.0.2.1"},
		"/rules":             {"1\u202f234\u202f567", "smtpd.conf:3", "/decision/3"},
		"/decision/3":        {"refused", "for domain &lt;vip&gt;"},
		"/tables":            {"aliases"},
		"/filters":           {"rspamd", "junk 2"},
		"/certificates":      {"mx.example.org"},
		"/envelopes?where=x": {`aria-invalid="true"`},
		"/envelopes?where=" + url.QueryEscape("size > 1M and domain = d2.example"): {"1 envelope<", "/message/00000003"},
	} {
		body := v.do("GET", page, nil).Body.String()
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("GET %s does not say %q", page, want)
			}
		}
	}
	for page, want := range map[string]int{
		"/message/99999999": 404, "/message/x": 404, "/decision/4": 404, "/decision/x": 404, "/nowhere": 404, "/stop": 404, "/assets/layout.html": 404,
	} {
		if w := v.do("GET", page, nil); w.Code != want {
			t.Errorf("GET %s: %d, want %d", page, w.Code, want)
		}
	}
}

// TestHost checks that a request for another name is not answered, which is
// what a page of a stranger could send after its name server has changed its
// mind.
func TestHost(t *testing.T) {
	v := enter(t, newTestServer(&fakeDaemon{n: 1}, nil), testTokens.Change)
	for host, want := range map[string]int{
		"127.0.0.1:8025": 200, "localhost:9999": 200, "LOCALHOST": 200, "[::1]:8025": 200, "127.0.0.2": 200,
		"evil.example": 421, "evil.example:8025": 421, "": 421, "127.0.0.1.evil.example": 421, "192.0.2.1:8025": 421, "localhost.evil.example": 421,
		"[::1]x:8025": 421, "127.0.0.1:x": 421, "0.0.0.0:8025": 421,
	} {
		w := v.do("GET", "/queue", nil, func(r *http.Request) { r.Host = host })
		if w.Code != want || want != 200 && strings.Contains(w.Body.String(), "d0.example") {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
}

// proofOf returns what the forms of a page carry.
func proofOf(t *testing.T, v *visitor) string {
	t.Helper()
	m := regexp.MustCompile(`name="proof" value="([0-9a-f]+)"`).FindStringSubmatch(v.do("GET", "/message/00000001", nil).Body.String())
	if m == nil {
		t.Fatal("there is no form")
	}
	return m[1]
}

// TestChange checks who may change something, and that it is done.
func TestChange(t *testing.T) {
	d := &fakeDaemon{n: 3}
	s := newTestServer(d, nil)
	reader, writer := enter(t, s, testTokens.Read), enter(t, s, testTokens.Change)
	proof := proofOf(t, writer)
	hold := url.Values{"verb": {"hold"}, "id": {"0000000100000001"}, "proof": {proof}, "back": {"/message/00000001"}}
	without := url.Values{"verb": {"hold"}, "id": {"0000000100000001"}}
	foreign := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
	otherOrigin := func(r *http.Request) {
		r.Header.Del("Sec-Fetch-Site")
		r.Header.Set("Origin", "http://evil.example")
	}
	bearer := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"who may read":          reader.do("POST", "/envelope", hold),
		"no proof":              writer.do("POST", "/envelope", without),
		"another page":          writer.do("POST", "/envelope", hold, foreign),
		"another origin":        writer.do("POST", "/envelope", hold, otherOrigin),
		"a program that reads":  (&visitor{server: s}).do("POST", "/envelope", without, bearer(testTokens.Read)),
		"a system, no proof":    writer.do("POST", "/system", url.Values{"system": {"mta"}, "verb": {"pause"}}),
		"a visit that is newer": enter(t, newTestServer(d, func(c *Config) { c.Tokens.Change = NewToken() }), testTokens.Read).do("POST", "/envelope", hold),
	} {
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: %d, want 403", name, w.Code)
		}
	}
	for _, path := range []string{"/envelope?verb=hold&id=0000000100000001&proof=" + proof, "/system?system=mta&verb=pause&proof=" + proof} {
		if w := writer.do("GET", path, nil); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
	if len(d.done) > 0 {
		t.Fatalf("it did %v", d.done)
	}

	w := writer.do("POST", "/envelope", hold)
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/message/00000001" {
		t.Errorf("hold: %d, %v", w.Code, w.Header())
	}
	writer.do("POST", "/system", url.Values{"system": {"mta"}, "verb": {"pause"}, "proof": {proof}})
	(&visitor{server: s}).do("POST", "/envelope", url.Values{"verb": {"remove"}, "id": {"0000000200000001"}}, bearer(testTokens.Change))
	want := []string{fmt.Sprintf("manage %d 0000000100000001", queue.Suspend), "pause mta true", fmt.Sprintf("manage %d 0000000200000001", queue.Remove)}
	if strings.Join(d.done, ",") != strings.Join(want, ",") {
		t.Errorf("it did %v, want %v", d.done, want)
	}

	for path, form := range map[string]url.Values{
		"/envelope": {"verb": {"stop"}, "id": {"0000000100000001"}, "proof": {proof}},
		"/system":   {"system": {"daemon"}, "verb": {"pause"}, "proof": {proof}},
	} {
		if w := writer.do("POST", path, form); w.Code != http.StatusBadRequest {
			t.Errorf("POST %s %v: %d", path, form, w.Code)
		}
	}
	if w := writer.do("POST", "/envelope", url.Values{"verb": {"hold"}, "id": {"all"}, "proof": {proof}}); w.Code != http.StatusNotFound {
		t.Errorf("hold all: %d", w.Code)
	}
	big := url.Values{"verb": {"hold"}, "id": {strings.Repeat("1", 2*maxForm)}, "proof": {proof}}
	if w := writer.do("POST", "/envelope", big); w.Code != http.StatusForbidden {
		t.Errorf("a form of %d bytes: %d", len(big.Encode()), w.Code)
	}
	if len(d.done) != len(want) {
		t.Errorf("it did %v too", d.done[len(want):])
	}
}

// TestBack checks that a form leads to no other server.
func TestBack(t *testing.T) {
	for path, want := range map[string]string{
		"/queue": "/queue", "/envelopes?where=x": "/envelopes?where=x",
		"": "/", "//evil.example/": "/", `/\evil.example`: "/", "https://evil.example/": "/", "/x\r\nSet-Cookie: a": "/", "javascript:1": "/",
	} {
		if got := back(path); got != want {
			t.Errorf("back(%q) = %q, want %q", path, got, want)
		}
	}
}

// TestReadOnly checks that without a second token nobody can change anything.
func TestReadOnly(t *testing.T) {
	d := &fakeDaemon{n: 1}
	s := newTestServer(d, func(c *Config) { c.Tokens.Change = "" })
	v := enter(t, s, testTokens.Read)
	forged := &visitor{s, &http.Cookie{Name: "smtpctl", Value: (&Tokens{}).cookie(changes, time.Now())}}
	form := url.Values{"verb": {"remove"}, "id": {"0000000100000001"}, "proof": {(&Tokens{}).proof(forged.cookie.Value)}}
	if w := v.do("POST", "/envelope", form); w.Code != http.StatusForbidden {
		t.Errorf("a reader: %d", w.Code)
	}
	if w := forged.do("POST", "/envelope", form); w.Code != http.StatusUnauthorized {
		t.Errorf("a cookie signed by nothing: %d", w.Code)
	}
	for _, token := range []string{"", testTokens.Change} {
		if w := v.do("GET", "/enter?token="+token, nil); w.Code != http.StatusUnauthorized {
			t.Errorf("token %q: %d", token, w.Code)
		}
	}
	if len(d.done) > 0 {
		t.Errorf("it did %v", d.done)
	}
}

// TestPeers checks that on a socket whose peers are known they may read
// without a token, and nothing else.
func TestPeers(t *testing.T) {
	d := &fakeDaemon{n: 1}
	v := &visitor{server: newTestServer(d, func(c *Config) { c.Peers = true })}
	if w := v.do("GET", "/queue", nil); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "d0.example") {
		t.Errorf("GET /queue: %d", w.Code)
	}
	if w := v.do("POST", "/system", url.Values{"system": {"mta"}, "verb": {"pause"}}); w.Code != http.StatusForbidden {
		t.Errorf("POST /system: %d", w.Code)
	}
}

// TestDown checks that a daemon that cannot be asked is told.
func TestDown(t *testing.T) {
	v := enter(t, newTestServer(&fakeDaemon{down: errors.New("smtpd doesn't seem to be running")}, nil), testTokens.Read)
	w := v.do("GET", "/", nil)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "seem to be running") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
}

// TestSurvey checks that a queue with more destinations than anyone can look
// at is counted whole, in bounded memory, and that large ones are not lost.
func TestSurvey(t *testing.T) {
	s := &survey{At: time.Now(), byRoute: make(map[route]*crowd)}
	const all = 20 * maxRoutes
	most := 0
	for i := range all {
		domain := fmt.Sprintf("d%d.example", i)
		if i%4 == 0 {
			domain = "Large.example"
		}
		s.add(&queue.Listed{Envelope: envelope.Envelope{
			Type: envelope.MTA, Dest: envelope.Address{User: "u", Domain: domain}, Created: s.At.Add(-time.Duration(i) * time.Second),
		}})
		most = max(most, len(s.byRoute))
	}
	s.add(&queue.Listed{Error: "damaged"})
	top := s.shrink(shownRoutes)
	if most > 2*maxRoutes {
		t.Errorf("it remembered %d routes", most)
	}
	if top[0].Domain != "large.example" || top[0].Count != all/4 {
		t.Errorf("the largest is %+v", top[0])
	}
	sum := s.Rest.Count
	for _, c := range top {
		sum += c.Count
	}
	if len(top) != shownRoutes || sum != all || s.All.Count != all || s.Broken != 1 {
		t.Errorf("%d rows of %d envelopes, %d in all, %d broken", len(top), sum, s.All.Count, s.Broken)
	}
	var byAge uint64
	for _, n := range s.All.Ages {
		byAge += n
	}
	if byAge != all || s.All.Ages[0] != 600 {
		t.Errorf("by age: %v", s.All.Ages)
	}
}

// TestSurveyor checks that a long queue is not counted again for everyone who
// looks.
func TestSurveyor(t *testing.T) {
	var s surveyor
	began := time.Now()
	counted := 0
	look := func(at time.Time) {
		s.get(at, func() (*survey, error) {
			counted++
			return &survey{At: at, Took: 10 * time.Second}, nil
		})
	}
	for range 10 {
		look(began)
		look(began.Add(199 * time.Second))
	}
	if counted != 1 {
		t.Errorf("counted %d times", counted)
	}
	if look(began.Add(201 * time.Second)); counted != 2 {
		t.Errorf("counted %d times, want 2", counted)
	}
}

// TestPeriods checks what a plot is made of, also when the daemon began anew.
func TestPeriods(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 30, 0, time.UTC)
	at := func(ago time.Duration, ok, queued uint64) sample {
		return sample{at: now.Add(-ago), ok: ok, queued: queued}
	}
	l := []sample{at(10*time.Minute, 100, 1), at(3*time.Minute, 110, 9), at(2*time.Minute, 130, 4), at(time.Minute, 5, 3), at(0, 6, 2)}
	p := periods(l, now, 5*time.Minute, 5)
	var got []string
	for _, p := range p {
		got = append(got, fmt.Sprint(p.From.Format("15:04"), p.Known, p.OK, p.Queued))
	}
	want := "11:56false 0 0,11:57true 10 9,11:58true 20 4,11:59true 5 3,12:00true 1 2"
	if strings.Join(got, ",") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ","), want)
	}
	plot := deliveryPlot(p)
	if plot.Max != 20 || plot.Series[0].Total != 36 || len(plot.Bars) != 5 || plot.Bars[2].Marks[0].Height != 100 {
		t.Errorf("plot %+v", plot)
	}
	if len(deliveryPlot(periods(nil, now, time.Hour, plotParts)).Bars) != plotParts {
		t.Error("no plot of nothing")
	}
}

// TestHistory checks that the oldest samples make room.
func TestHistory(t *testing.T) {
	var h history
	began := time.Unix(1e9, 0)
	for i := range maxSamples + 10 {
		h.add(sample{at: began.Add(time.Duration(i) * sampleEvery)})
	}
	l := h.since(time.Time{})
	if len(l) != maxSamples || !l[0].at.Equal(began.Add(10*sampleEvery)) {
		t.Errorf("%d samples from %v", len(l), l[0].at)
	}
}

// TestTokens checks that tokens stay from one start to the next, and are not
// believed where others could have put or seen them.
func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.token")
	first, err := LoadTokens(path)
	if err != nil || len(first.Read) < 20 || len(first.Change) < 20 || first.Read == first.Change {
		t.Fatalf("%+v, %v", first, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if again, err := LoadTokens(path); err != nil || again != first {
		t.Errorf("again: %+v, %v", again, err)
	}
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadTokens(link); err == nil {
		t.Error("it followed a link")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadTokens(path); err == nil || !strings.Contains(err.Error(), "known to others") {
		t.Errorf("a file that others can read: %v", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("read \nchange x\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadTokens(path); err == nil || !strings.Contains(err.Error(), "holds no tokens") {
		t.Errorf("a file without tokens: %v", err)
	}
}
