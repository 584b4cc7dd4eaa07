package lsp

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/lang"
	"smtpd/lang/diag"
)

// Config says how configurations are judged.
type Config struct {
	Host    compile.Host
	Defines []lang.Define

	// Review, if it is not nil, adds findings to a report and takes away
	// what the user allows. The rules are nil if the language is wrong.
	Review func(*ast.File, *compile.Ruleset, *diag.Report)
}

// Serve speaks the protocol until the client says exit. The error is one of
// the streams, or that the client ended without saying shutdown.
func Serve(in io.Reader, out io.Writer, c Config) error {
	s := newServer(out, c)
	r := bufio.NewReaderSize(in, maxHeader)
	for !s.exited {
		body, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			return errors.New("input ended before the client said exit")
		}
		if err != nil {
			return err
		}
		s.message(body)
		if s.err != nil {
			return fmt.Errorf("answer: %w", s.err)
		}
	}
	if !s.stopped {
		return errors.New("the client said exit before shutdown")
	}
	return nil
}

// A server is one conversation.
type server struct {
	config Config
	out    io.Writer
	err    error // of writing

	ready, stopped, exited bool

	docs      map[string]*document // by URI
	snapshots []*snapshot          // of the documents that no other includes
	published map[string]bool      // URIs that have findings in the editor
}

func newServer(out io.Writer, c Config) *server {
	return &server{
		config:    c,
		out:       out,
		docs:      make(map[string]*document),
		published: make(map[string]bool),
	}
}

// message does what one message asks.
func (s *server) message(body []byte) {
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		s.fail(nil, &callError{parseError, "the message is not a JSON object: " + err.Error()})
		return
	}
	if req.Method == "" {
		if len(req.ID) == 0 {
			s.fail(nil, &callError{invalidRequest, "the message has no method"})
		}
		return // an answer; nothing was asked
	}
	if len(req.ID) == 0 {
		s.notified(req.Method, req.Params)
		return
	}
	result, err := s.call(req.Method, req.Params)
	if err == nil {
		s.write(response{"2.0", req.ID, result})
		return
	}
	var refused *callError
	if !errors.As(err, &refused) {
		refused = &callError{requestFailed, err.Error()}
	}
	s.fail(req.ID, refused)
}

func (s *server) fail(id json.RawMessage, err *callError) {
	if id == nil {
		id = json.RawMessage("null")
	}
	s.write(failure{"2.0", id, err})
}

func (s *server) notify(method string, params any) {
	s.write(notification{"2.0", method, params})
}

func (s *server) write(v any) {
	body, err := json.Marshal(v)
	if err == nil {
		err = writeFrame(s.out, body)
	}
	if err != nil && s.err == nil {
		s.err = err
	}
}

// notified handles what asks for no answer. What it does not know, or cannot
// read, is passed over, as the protocol wants it.
func (s *server) notified(method string, params json.RawMessage) {
	switch method {
	case "exit":
		s.exited = true
	case "textDocument/didOpen":
		if p, err := read[openParams](params); err == nil {
			s.docs[p.TextDocument.URI] = newDocument(p.TextDocument.URI, p.TextDocument.Text)
			s.refresh()
		}
	case "textDocument/didChange":
		if p, err := read[changeParams](params); err == nil {
			s.changed(p)
		}
	case "textDocument/didSave":
		s.refresh() // another document may include it from the disk
	case "textDocument/didClose":
		if p, err := read[documentParams](params); err == nil {
			delete(s.docs, p.TextDocument.URI)
			s.refresh()
		}
	}
}

func (s *server) changed(p *changeParams) {
	d := s.docs[p.TextDocument.URI]
	if d == nil {
		return
	}
	for _, c := range p.ContentChanges {
		d.change(c.Range, c.Text)
	}
	s.refresh()
}

// call answers a call. A nil result is the answer that there is nothing.
func (s *server) call(method string, params json.RawMessage) (any, error) {
	switch {
	case method == "initialize":
		s.ready = true
		return json.RawMessage(capabilities), nil
	case !s.ready:
		return nil, &callError{notInitialized, method + " before initialize"}
	case s.stopped:
		return nil, &callError{invalidRequest, method + " after shutdown"}
	case method == "shutdown":
		s.stopped = true
		return nil, nil
	}
	switch method {
	case "textDocument/hover":
		return ask(s, params, (*view).hover)
	case "textDocument/completion":
		return ask(s, params, (*view).complete)
	case "textDocument/definition":
		return ask(s, params, (*view).definition)
	case "textDocument/references":
		return ask(s, params, (*view).references)
	case "textDocument/prepareRename":
		return ask(s, params, (*view).prepareRename)
	case "textDocument/rename":
		return ask(s, params, (*view).rename)
	case "textDocument/formatting":
		return ask(s, params, (*view).format)
	case "textDocument/codeAction":
		p, err := read[codeActionParams](params)
		if err != nil {
			return nil, err
		}
		v, err := s.view(p.TextDocument.URI, p.Range.Start)
		if err != nil {
			return nil, err
		}
		return v.codeActions(p.Range), nil
	}
	return nil, &callError{methodNotFound, "no method " + clip(method)}
}

// ask answers a call about a place in a document.
func ask[T any](s *server, params json.RawMessage, f func(*view, *placeParams) (T, error)) (any, error) {
	p, err := read[placeParams](params)
	if err != nil {
		return nil, err
	}
	v, err := s.view(p.TextDocument.URI, p.Position)
	if err != nil {
		return nil, err
	}
	return f(v, p)
}

// read takes the parameters of a method apart.
func read[T any](params json.RawMessage) (*T, error) {
	p := new(T)
	if err := json.Unmarshal(params, p); err != nil {
		return nil, &callError{invalidParams, err.Error()}
	}
	return p, nil
}

// A view is a place in a document, with what is known of the configuration
// that the document belongs to.
type view struct {
	*snapshot
	doc    *document
	lines  *lines
	offset int
	pieces []lang.Piece // of the document
}

func (s *server) view(uri string, p position) (*view, error) {
	d := s.docs[uri]
	if d == nil {
		return nil, &callError{invalidParams, "the document is not open: " + clip(uri)}
	}
	v := &view{doc: d, lines: newLines(d.text), pieces: lang.Pieces([]byte(d.text))}
	v.offset = v.lines.offset(p)
	for _, snap := range s.snapshots {
		if snap.root == d || snap.reads(d.path) {
			v.snapshot = snap
			return v, nil
		}
	}
	return nil, &callError{requestFailed, "the document was not read: " + clip(uri)}
}

// piece returns the piece at the place: the one that the cursor is in or
// before, else the one that it is right behind.
func (v *view) piece() (lang.Piece, bool) {
	var behind lang.Piece
	for _, p := range v.pieces {
		switch {
		case p.Start <= v.offset && v.offset < p.End && p.Kind != lang.NewlinePiece && p.Kind != lang.PunctPiece:
			return p, true
		case p.End == v.offset:
			behind = p
		}
	}
	return behind, behind.End > 0
}
