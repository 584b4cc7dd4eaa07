package lka

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const goodPolicy = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.mail.example.org\r\nmax_age: 604800\r\n"

func TestParsePolicy(t *testing.T) {
	for text, want := range map[string]string{
		goodPolicy: "enforce [mx.example.org *.mail.example.org] 168h0m0s",
		"version: STSv1\nmode: testing\nmx: A.example\nmax_age: 1\nmode: none\nnew: thing\n": "testing [a.example] 1s",
		"version: STSv1\nmode:none\nmax_age: 0":                                              "none [] 0s",
		"":                                                                                   "missing",
		"version: STSv2\nmode: none\nmax_age: 1\n":                                           "not known",
		"version: STSv1\nmode: strict\nmax_age: 1\nmx: a\n":                                  "not known",
		"version: STSv1\nmode: enforce\nmax_age: 1\n":                                        "no mx",
		"version: STSv1\nmode: enforce\nmx: a\nmax_age: 31557601\n":                          "out of range",
		"version: STSv1\nmode: enforce\nmx: a\nmax_age: -1\n":                                "out of range",
		"version: STSv1\nmode: enforce\nmx: *.*.a\nmax_age: 1\n":                             "no pattern",
		"version: STSv1\nmode: enforce\nmx: a b\nmax_age: 1\n":                               "no pattern",
		"version: STSv1\nnonsense\nmode: none\nmax_age: 1\n":                                 "without a colon",
		"<html>\n": "without a colon",
		"version: STSv1\nmode: enforce\nmax_age: 1\n" + strings.Repeat("mx: a.example\n", maxPolicyMX+1): "too many",
	} {
		p, err := parsePolicy(text)
		got := fmt.Sprintf("%v %v %v", p.Mode, p.MX, p.MaxAge)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%.60q: %s, want %s", text, got, want)
		}
	}
}

func TestPolicyMatches(t *testing.T) {
	p, err := parsePolicy(goodPolicy)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"mx.example.org": true, "MX.example.org.": true, "a.mail.example.org": true, "a.b.mail.example.org": false,
		"mail.example.org": false, ".mail.example.org": false, "example.org": false, "mx.example.org.evil.example": false,
	} {
		if p.Matches(host) != want {
			t.Errorf("%s matches: %v", host, !want)
		}
	}
}

func TestPolicyID(t *testing.T) {
	for _, c := range []struct{ texts, want string }{
		{"v=STSv1; id=20160831085700Z;", "20160831085700Z"}, {"v=STSv1;id=1", "1"}, {"v=STSv1 ; id=1 ; x=y", "1"},
		{"v=STSv1; id=1;|v=spf1 -all", "1"}, {"v=STSv1; id=1|v=STSv1; id=2", ""}, {"v=STSv1;", ""}, {"v=STSv1; id=a-b", ""},
		{"v=STSv10; id=1", ""}, {"id=1; v=STSv1", ""}, {"", ""}, {"v=STSv1; id=" + strings.Repeat("1", 33), ""},
	} {
		if got := policyID(strings.Split(c.texts, "|")); got != c.want {
			t.Errorf("%q: id %q, want %q", c.texts, got, c.want)
		}
	}
}

// A domain is one whose policy changes under the hands of the test.
type domain struct {
	id, text, problem string
	asked, fetched    atomic.Int32
	down              bool // the DNS does not answer
}

func (d *domain) policies(ctx context.Context) *policies {
	p := newPolicies(ctx, &directory{}, slog.New(slog.DiscardHandler))
	p.txt = func(context.Context, string) ([]string, *DNSError) {
		d.asked.Add(1)
		switch {
		case d.down:
			return nil, errNoRecords
		case d.id == "":
			return nil, nil
		}
		return []string{"v=STSv1; id=" + d.id}, nil
	}
	p.fetch = func(context.Context, string) (string, string, error) {
		d.fetched.Add(1)
		if d.problem != "" {
			return "", d.problem, errors.New("no")
		}
		return d.text, "", nil
	}
	return p
}

// want checks what is known of the policy, and how often it has been fetched.
func (d *domain) want(t *testing.T, p *policies, mode, problem string, fetched int32) {
	t.Helper()
	s := p.get(t.Context(), "example.org")
	synctest.Wait()
	got := "none"
	if s.Found {
		got = s.Policy.Mode.String()
	}
	if got != mode || s.Problem != problem || d.fetched.Load() != fetched {
		t.Errorf("mode %s, problem %q, fetched %d times; want %s, %q, %d", got, s.Problem, d.fetched.Load(), mode, problem, fetched)
	}
}

// TestPolicies follows the life of a policy: what was fetched is used until it
// is too old, whatever the DNS and the host of the policy say meanwhile.
func TestPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &domain{}
		p := d.policies(t.Context())
		d.want(t, p, "none", "", 0) // no record, nothing to fetch
		d.id, d.problem = "1", problemWebPKI
		d.want(t, p, "none", problemWebPKI, 1)
		d.problem, d.text = "", goodPolicy
		d.want(t, p, "none", problemWebPKI, 1) // not again so soon
		time.Sleep(retryFetch)
		d.want(t, p, "enforce", "", 2)
		d.want(t, p, "enforce", "", 2)
		d.id, d.text = "2", strings.Replace(goodPolicy, "enforce", "testing", 1)
		d.want(t, p, "testing", "", 3)
		d.id, d.text = "3", "nonsense"
		d.want(t, p, "testing", problemInvalid, 4)
		time.Sleep(24 * time.Hour)
		d.id = "" // whoever takes the record away takes nothing else away
		d.want(t, p, "testing", problemInvalid, 4)
		d.down = true
		d.want(t, p, "testing", problemInvalid, 4)
		time.Sleep(6 * 24 * time.Hour)
		d.want(t, p, "none", problemInvalid, 4)
		d.down, d.id, d.text = false, "4", strings.Replace(goodPolicy, "enforce", "none", 1)
		d.want(t, p, "none", "", 5)
	})
}

// TestPoliciesRefresh checks that a policy in use is fetched anew long before
// it is too old, by who uses it and without.
func TestPoliciesRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		d := &domain{id: "1", text: goodPolicy}
		p := d.policies(ctx)
		d.want(t, p, "enforce", "", 1)
		time.Sleep(refreshAfter + time.Second)
		d.want(t, p, "enforce", "", 2)
		go p.run(ctx, nil)
		time.Sleep(refreshAfter + refreshPeriod + time.Second)
		synctest.Wait()
		if n := d.fetched.Load(); n != 3 {
			t.Errorf("fetched %d times, want 3", n)
		}
		time.Sleep(30 * 24 * time.Hour) // nobody asks
		synctest.Wait()
		if n := d.fetched.Load(); n < 8 || n > 10 {
			t.Errorf("fetched %d times, want once a day for a week after its last use", n)
		}
		cancel()
		synctest.Wait()
	})
}

// TestPoliciesKept checks that policies survive a new start.
func TestPoliciesKept(t *testing.T) {
	dir := t.TempDir()
	open := func() (files [2]*os.File) {
		for i := range files {
			f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(i)), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			files[i] = f
		}
		return files
	}
	d := &domain{id: "1", text: goodPolicy}
	for i, problem := range []string{"", problemFetch} {
		ctx, cancel := context.WithCancel(t.Context())
		p := d.policies(ctx)
		m := p.open(open())
		d.problem = problem
		if s := p.get(ctx, "example.org"); !s.Found || s.Policy.Mode != STSEnforce || len(s.Policy.MX) != 2 {
			t.Errorf("start %d: %+v", i, s)
		}
		cancel()
		p.run(ctx, m)
	}
	if n := d.fetched.Load(); n != 1 {
		t.Errorf("fetched %d times, want once", n)
	}
}

func TestFetchPolicy(t *testing.T) {
	reply := func(w http.ResponseWriter, r *http.Request) {}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reply(w, r) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	addr := netip.MustParseAddrPort(s.Listener.Addr().String())
	trusted := x509.NewCertPool()
	trusted.AddCert(s.Certificate())
	text := func(kind string, status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Location", "https://mta-sts.example.com/")
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name, domain string
		roots        *x509.CertPool
		reply        http.HandlerFunc
		want         string
	}{
		{"good", "example.com", trusted, text("text/plain; charset=utf-8", 200, goodPolicy), ""},
		{"redirect", "example.com", trusted, text("text/plain", 302, goodPolicy), problemFetch},
		{"missing", "example.com", trusted, text("text/plain", 404, goodPolicy), problemFetch},
		{"web page", "example.com", trusted, text("text/html", 200, goodPolicy), problemInvalid},
		{"long", "example.com", trusted, text("text/plain", 200, strings.Repeat("x", maxPolicySize+1)), problemInvalid},
		{"another host", "example.net", trusted, text("text/plain", 200, goodPolicy), problemWebPKI},
		{"unknown authority", "example.com", x509.NewCertPool(), text("text/plain", 200, goodPolicy), problemWebPKI},
		{"no address", "gone.example", trusted, text("text/plain", 200, goodPolicy), problemFetch},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := ""
			reply = func(w http.ResponseWriter, r *http.Request) {
				asked = r.Host + r.URL.Path
				c.reply(w, r)
			}
			f := &fetcher{port: addr.Port(), roots: c.roots, addrs: func(_ context.Context, host string) []netip.Addr {
				if host == "mta-sts.gone.example" {
					return nil
				}
				return []netip.Addr{addr.Addr()}
			}}
			got, problem, err := f.fetch(t.Context(), c.domain)
			if problem != c.want || (problem == "") != (got == goodPolicy) || (err == nil) != (problem == "") {
				t.Errorf("fetch = %.40q, %q, %v, want problem %q", got, problem, err, c.want)
			}
			if problem == "" && asked != "mta-sts.example.com/.well-known/mta-sts.txt" {
				t.Errorf("asked for %s", asked)
			}
		})
	}
}
