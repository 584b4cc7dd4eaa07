package lka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/imsg"
)

// Times and sizes of a helper.
const (
	helperTime    = 10 * time.Second // for the handshake, and for each answer
	helperLine    = 64 << 10         // bytes of an answer
	firstBackoff  = time.Second
	longestPause  = time.Minute
	helperVersion = "7.8.0-portable" // what helpers of protocol 0.1 were written against
)

var (
	errHelperDown = errors.New("helper is down and will be started again")
	errHelperLine = errors.New("helper broke the protocol")
)

// A helper is a program that serves one table by the text protocol, version
// 0.1 (runtime.md 10.1). It is asked one thing at a time, for that is what
// such programs were written for; other tables do not wait for it. One that
// dies, hangs or talks nonsense fails what it was asked, and is started anew
// after a pause that grows.
type helper struct {
	table *compile.Table
	dirs  []string
	log   *slog.Logger

	requests chan *helperRequest
	next     uint32 // id of the last request
}

// A helperRequest waits for one answer line.
type helperRequest struct {
	ctx     context.Context
	op      string // "check", "lookup", "fetch", "update"
	service engine.Service
	key     string
	done    chan struct{}

	value string
	found bool
	err   error
}

func newHelper(t *compile.Table, dirs []string, log *slog.Logger) *helper {
	return &helper{table: t, dirs: dirs, log: log, requests: make(chan *helperRequest)}
}

func (h *helper) check(ctx context.Context, s engine.Service, key string) (bool, error) {
	_, ok, err := h.ask(ctx, "check", s, key)
	return ok, err
}

func (h *helper) lookup(ctx context.Context, s engine.Service, key string) (string, bool, error) {
	return h.ask(ctx, "lookup", s, key)
}

func (h *helper) fetch(ctx context.Context, s engine.Service) (string, bool, error) {
	return h.ask(ctx, "fetch", s, "")
}

func (h *helper) update(ctx context.Context) error {
	_, _, err := h.ask(ctx, "update", 0, "")
	return err
}

// ask hands a request to run. A key with a line end would be a second
// request to the helper.
func (h *helper) ask(ctx context.Context, op string, s engine.Service, key string) (string, bool, error) {
	if strings.ContainsAny(key, "\r\n\x00") {
		return "", false, errors.New("key holds a line end")
	}
	r := &helperRequest{ctx: ctx, op: op, service: s, key: key, done: make(chan struct{})}
	select {
	case h.requests <- r:
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
	select {
	case <-r.done:
		return r.value, r.found, r.err
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
}

// run keeps the helper running until ctx ends.
func (h *helper) run(ctx context.Context) {
	pause := firstBackoff
	for ctx.Err() == nil {
		answered, err := h.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		if answered {
			pause = firstBackoff
		}
		h.log.Warn("lost processor", "table", h.table.Name, "err", err, "restart", pause)
		h.refuse(ctx, pause)
		pause = min(2*pause, longestPause)
	}
}

// refuse fails what is asked during a pause.
func (h *helper) refuse(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case r := <-h.requests:
			r.err = errHelperDown
			close(r.done)
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// serve starts the helper and passes requests to it until it fails. It
// reports whether the helper answered any.
func (h *helper) serve(ctx context.Context) (answered bool, err error) {
	conn, stop, err := h.start()
	if err != nil {
		return false, err
	}
	defer stop()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	lines := bufio.NewReaderSize(conn, helperLine)
	services, err := h.handshake(conn, lines)
	if err != nil {
		return false, err
	}
	for {
		select {
		case <-ctx.Done():
			return answered, ctx.Err()
		case r := <-h.requests:
			err := h.exchange(conn, lines, services, r)
			close(r.done)
			if err != nil {
				return answered, err
			}
			answered = true
		}
	}
}

// start runs the program with one stream socket for its input and output.
func (h *helper) start() (conn net.Conn, stop func(), err error) {
	program, err := h.program()
	if err != nil {
		return nil, nil, err
	}
	ours, theirs, err := imsg.Socketpair("table")
	if err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", program, err)
	}
	defer ours.Close()
	defer theirs.Close()
	if conn, err = net.FileConn(ours); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", program, err)
	}
	cmd := &exec.Cmd{Path: program, Args: []string{h.table.Name}, Stdin: theirs, Stdout: theirs,
		Stderr: &helperLog{log: h.log, table: h.table.Name}, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	cmd.WaitDelay = time.Second
	if h.table.Path != "" {
		cmd.Args = append(cmd.Args, h.table.Path)
	}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("start %s: %w", program, err)
	}
	return conn, func() {
		conn.Close()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	}, nil
}

func (h *helper) program() (string, error) {
	for _, dir := range h.dirs {
		path := filepath.Join(dir, "table-"+h.table.Backend)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("no program table-%s in %s", h.table.Backend, strings.Join(h.dirs, ", "))
}

// handshake tells the helper its table and learns what it serves.
func (h *helper) handshake(conn net.Conn, lines *bufio.Reader) (engine.Service, error) {
	conn.SetDeadline(time.Now().Add(helperTime))
	_, err := fmt.Fprintf(conn, "config|smtpd-version|%s\nconfig|protocol|0.1\nconfig|tablename|%s\nconfig|ready\n",
		helperVersion, h.table.Name)
	if err != nil {
		return 0, err
	}
	var services engine.Service
	for {
		line, err := readLine(lines)
		if err != nil {
			return 0, fmt.Errorf("handshake: %w", err)
		}
		word, ok := strings.CutPrefix(line, "register|")
		if ok && word == "ready" && services != 0 {
			return services, nil
		}
		service, known := engine.ParseService(word)
		if !ok || !known {
			return 0, fmt.Errorf("handshake: %q: %w", clip(line), errHelperLine)
		}
		services |= service
	}
}

// exchange sends a request and completes it with the answer. An error is
// what ends the helper; one that it reports itself is the request's alone.
func (h *helper) exchange(conn net.Conn, lines *bufio.Reader, services engine.Service, r *helperRequest) error {
	switch {
	case r.ctx.Err() != nil: // nobody waits for it any more
		r.err = r.ctx.Err()
		return nil
	case r.op != "update" && services&r.service == 0:
		r.err = errService
		return nil
	}
	h.next++
	id := fmt.Sprintf("%08x", h.next)
	conn.SetDeadline(time.Now().Add(helperTime))
	_, err := io.WriteString(conn, requestLine(time.Now(), h.table.Name, id, r))
	if err == nil {
		var line string
		if line, err = readLine(lines); err == nil {
			err = r.parse(line, id)
		}
	}
	if err != nil {
		r.value, r.found = "", false
		r.err = fmt.Errorf("%s: %w", r.op, err)
	}
	return err
}

func requestLine(now time.Time, table, id string, r *helperRequest) string {
	head := fmt.Sprintf("table|0.1|%d.%06d|%s|%s|", now.Unix(), now.Nanosecond()/1000, table, r.op)
	switch r.op {
	case "update":
		return head + id + "\n"
	case "fetch":
		return head + r.service.String() + "|" + id + "\n"
	}
	return head + r.service.String() + "|" + id + "|" + r.key + "\n"
}

// parse completes r with an answer, OP-result|ID|…. What found says after a
// check is of no matter.
func (r *helperRequest) parse(line, id string) error {
	bad := fmt.Errorf("answer %q: %w", clip(line), errHelperLine)
	rest, ok := strings.CutPrefix(line, r.op+"-result|"+id+"|")
	if !ok {
		return bad
	}
	word, value, valued := strings.Cut(rest, "|")
	switch {
	case word == "error":
		r.err = fmt.Errorf("%s: helper says %q", r.op, clip(value))
	case r.op == "update" && rest == "ok":
	case r.op == "update":
		return bad
	case rest == "not-found":
	case word == "found" && r.op == "check":
		r.found = true
	case word == "found" && valued && value != "":
		r.found, r.value = true, value
	default:
		return bad
	}
	return nil
}

// readLine returns a line without its end. It is never longer than the
// buffer.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("line of more than %d bytes: %w", helperLine, errHelperLine)
	case err != nil:
		return "", err
	}
	return string(line[:len(line)-1]), nil
}

// A helperLog logs what a helper writes to its standard error.
type helperLog struct {
	log   *slog.Logger
	table string
}

func (l *helperLog) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			l.log.Warn("table helper", "table", l.table, "text", clip(line))
		}
	}
	return len(p), nil
}

// clip shortens text for a message.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
