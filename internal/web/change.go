package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"smtpd/runtime/control"
	"smtpd/runtime/queue"
)

// change lets through what comes from a form of a page here, or from a
// program, of someone who has the second right. What it did is seen on the
// page that the form was on.
func (s *server) change(do func(d Daemon, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.mayChange(r); err != nil {
			s.refuse(w, http.StatusForbidden, err.Error())
			return
		}
		err := s.question(r.Context(), func(ctx context.Context) error {
			return s.ask(ctx, func(d Daemon) error { return do(d, r) })
		})
		if err != nil {
			s.fail(w, &view{}, err)
			return
		}
		s.surveyor.forget()
		http.Redirect(w, r, back(r.PostFormValue("back")), http.StatusSeeOther)
	}
}

// mayChange returns why r may change nothing, or nil.
func (s *server) mayChange(r *http.Request) error {
	switch {
	case s.rightOf(r) < changes:
		return &problem{text: "This visit may read only. smtpctl web -w prints an address for changes."}
	case s.foreign.Check(r) != nil:
		return &problem{text: "This change comes from a page of another server."}
	case s.config.Tokens.of(bearer(r)) == changes: // no browser sends this unasked
		return nil
	case !same(r.PostFormValue("proof"), s.formsOf(r)):
		return &problem{text: "This form is of an earlier visit. Go back, load the page again and repeat the change."}
	}
	return nil
}

// back returns path if it is one of ours.
func back(path string) string {
	if strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") && !strings.ContainsAny(path, "\\\r\n") {
		return path
	}
	return "/"
}

// verbs are what can be done with envelopes.
var verbs = map[string]queue.Verb{"schedule": queue.Schedule, "hold": queue.Suspend, "release": queue.Resume, "remove": queue.Remove}

func (s *server) changeEnvelope(d Daemon, r *http.Request) error {
	verb, known := verbs[r.PostFormValue("verb")]
	sel, err := selection(r.PostFormValue("id"))
	switch {
	case !known:
		return &problem{http.StatusBadRequest, "There is no such change."}
	case err != nil:
		return err
	}
	n, err := d.Manage(verb, sel)
	if err == nil && n == 0 {
		err = &problem{http.StatusConflict, fmt.Sprintf("Nothing has changed: %s is not in the queue any more, is being delivered, or was so already.", r.PostFormValue("id"))}
	}
	return err
}

// systems are what can be paused.
var systems = map[string]control.System{"smtp": control.SMTP, "mda": control.MDA, "mta": control.MTA}

func (s *server) changeSystem(d Daemon, r *http.Request) error {
	system, known := systems[r.PostFormValue("system")]
	verb := r.PostFormValue("verb")
	if !known || verb != "pause" && verb != "resume" {
		return &problem{http.StatusBadRequest, "There is no such change."}
	}
	_, err := d.Pause(system, verb == "pause")
	return err
}
