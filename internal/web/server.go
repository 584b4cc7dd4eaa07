package web

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"smtpd/runtime/control"
)

// A Config says how to reach the daemon, and who may do what.
type Config struct {
	Dial   func() (Daemon, error)
	Tokens Tokens       // Change is "" where nothing can be changed
	Peers  bool         // whoever can connect may read: the listener has looked at him
	Cookie string       // its name: servers on several ports of one host need one each
	Log    *slog.Logger // of what goes wrong here
}

// What a visitor may take.
const (
	maxConnections = 64
	maxQuestions   = 8 // at once, far from control.MaxPerUser: smtpctl has to work too
	maxHeader      = 8 << 10
	maxForm        = 4 << 10
	headerTime     = 5 * time.Second
	requestTime    = 10 * time.Second
	askTime        = time.Minute // of the daemon
	answerTime     = askTime + 30*time.Second
	idleTime       = time.Minute
)

// A server answers visitors.
type server struct {
	config    Config
	mux       *http.ServeMux
	pages     map[string]*template.Template
	questions chan struct{}
	surveyor  surveyor
	history   history
	foreign   *http.CrossOriginProtection
}

//go:embed assets
var assets embed.FS

func newServer(c Config) *server {
	s := &server{
		config: c, mux: http.NewServeMux(), pages: parsePages(), questions: make(chan struct{}, maxQuestions),
		foreign: http.NewCrossOriginProtection(),
	}
	s.config.Cookie = cmp.Or(c.Cookie, "smtpctl")
	s.page("/{$}", "overview", s.overview)
	s.page("/queue", "queue", s.queue)
	s.page("/envelopes", "envelopes", s.envelopes)
	s.page("/message/{id}", "message", s.message)
	s.page("/deliveries", "deliveries", s.deliveries)
	s.page("/rules", "rules", s.rules)
	s.page("/decision/{n}", "decision", s.decision)
	s.page("/tables", "tables", s.tables)
	s.page("/filters", "filters", s.filters)
	s.page("/certificates", "certificates", s.certificates)
	s.mux.HandleFunc("POST /envelope", s.change(s.changeEnvelope))
	s.mux.HandleFunc("POST /system", s.change(s.changeSystem))
	s.mux.HandleFunc("GET /enter", s.enter)
	files, _ := fs.Sub(assets, "assets")
	for _, name := range []string{"style.css", "page.js", "icon.svg"} {
		s.mux.Handle("GET /assets/"+name, http.StripPrefix("/assets/", http.FileServerFS(files)))
	}
	return s
}

// Serve answers on ln until ctx is done.
func Serve(ctx context.Context, ln net.Listener, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	s := newServer(c)
	running.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		s.sample(ctx, tick.C)
	})
	h := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	if err := h.Serve(netutil.LimitListener(ln, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %v: %w", ln.Addr(), err)
	}
	return nil
}

// sample writes numbers down now and at every tick.
func (s *server) sample(ctx context.Context, tick <-chan time.Time) {
	for {
		err := s.ask(ctx, func(d Daemon) error {
			n, err := count(d)
			if err == nil {
				s.history.add(sampleOf(n, time.Now()))
			}
			return err
		})
		if err != nil && ctx.Err() == nil {
			s.config.Log.Debug("web: the daemon was not counted", "error", err)
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return
		}
	}
}

// policy lets a page load nothing but what is here, run no script but the one
// file, and be shown within no other.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler: what holds for every request comes first.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if !isOwnName(r.Host) {
		s.refuse(w, http.StatusMisdirectedRequest, "This server answers to localhost, 127.0.0.1 and [::1] only.")
		return
	}
	if s.rightOf(r) == none && r.URL.Path != "/enter" && !strings.HasPrefix(r.URL.Path, "/assets/") {
		h.Set("WWW-Authenticate", "Bearer")
		s.refuse(w, http.StatusUnauthorized, "Open the address that smtpctl web has printed: it holds the token without which nothing is shown.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	s.mux.ServeHTTP(w, r)
}

// rightOf returns what the sender of r may do.
func (s *server) rightOf(r *http.Request) right {
	got := s.config.Tokens.of(bearer(r))
	if c, err := r.Cookie(s.config.Cookie); err == nil {
		got = max(got, s.config.Tokens.ofCookie(c.Value, time.Now()))
	}
	if s.config.Peers {
		got = max(got, reads)
	}
	return got
}

// enter takes the token of the address that was printed, and has the browser
// keep a cookie. It goes on by a page and not by a redirection: a browser that
// came from elsewhere would not show the cookie then, as that is strict.
func (s *server) enter(w http.ResponseWriter, r *http.Request) {
	got := s.config.Tokens.of(r.URL.Query().Get("token"))
	if got == none {
		s.refuse(w, http.StatusUnauthorized, "This token is not valid. Open the address that smtpctl web has printed.")
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: s.config.Cookie, Value: s.config.Tokens.cookie(got, time.Now()), Path: "/",
		MaxAge: int(visitTime / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	s.render(w, http.StatusOK, "enter", &view{Title: "Welcome"})
}

// question waits for its turn to ask the daemon.
func (s *server) question(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	select {
	case s.questions <- struct{}{}:
		defer func() { <-s.questions }()
		return f(ctx)
	case <-ctx.Done():
		return errors.New("too many others ask at the moment")
	}
}

// A view is what a page is made of.
type view struct {
	Title  string
	Name   string
	Status *control.Status // nil: not known
	Forms  string          // what a form must carry; "" for who may change nothing
	Back   string          // where a form leads back to
	Now    time.Time
	Data   any
}

// A pageFunc collects what a page shows.
type pageFunc func(ctx context.Context, d Daemon, r *http.Request) (title string, data any, err error)

// A problem is told to the visitor as it is, with a status.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

// page serves a page: the status of the daemon, and what collect returns.
func (s *server) page(pattern, name string, collect pageFunc) {
	s.mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
		v := &view{Name: name, Now: time.Now(), Back: r.URL.RequestURI(), Forms: s.formsOf(r)}
		err := s.question(r.Context(), func(ctx context.Context) error {
			return s.ask(ctx, func(d Daemon) error {
				status, err := d.Status()
				if err == nil {
					v.Status = &status
					v.Title, v.Data, err = collect(ctx, d, r)
				}
				return err
			})
		})
		if err != nil {
			s.fail(w, v, err)
			return
		}
		s.render(w, http.StatusOK, name, v)
	})
}

// formsOf returns what forms carry for the sender of r.
func (s *server) formsOf(r *http.Request) string {
	c, err := r.Cookie(s.config.Cookie)
	if err != nil || s.rightOf(r) < changes {
		return ""
	}
	return s.config.Tokens.proof(c.Value)
}

// fail says what went wrong.
func (s *server) fail(w http.ResponseWriter, v *view, err error) {
	status, text := http.StatusServiceUnavailable, "The daemon could not be asked: "+err.Error()+"."
	if p := (*problem)(nil); errors.As(err, &p) {
		status, text = p.status, p.text
	}
	v.Title, v.Data = http.StatusText(status), text
	s.render(w, status, "problem", v)
}

// refuse says why nothing is shown.
func (s *server) refuse(w http.ResponseWriter, status int, text string) {
	s.render(w, status, "refused", &view{Title: http.StatusText(status), Data: text})
}

func (s *server) render(w http.ResponseWriter, status int, name string, v *view) {
	var b bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&b, "layout", v); err != nil {
		s.config.Log.Error("web: page", "page", name, "error", err)
		http.Error(w, "this page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
