package mta

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpd/runtime/imsg"
)

// maxShown bounds a text for the administrator, below what one message holds.
const maxShown = imsg.MaxMessage - 4096

// orders serves control.
func (a *agent) orders(_ context.Context, m imsg.Message) (imsg.Message, error) {
	if m.File != nil {
		m.File.Close()
	}
	var o Order
	if m.Type != msgOrder {
		return imsg.Message{}, fmt.Errorf("mta: no request %d", m.Type)
	}
	if err := o.Parse(m.Data); err != nil {
		return imsg.Message{}, err
	}
	a.restoring.Wait()
	answer, err := a.carryOut(o)
	if err != nil {
		return imsg.Message{}, err
	}
	return imsg.Message{Data: answer.append(nil)}, nil
}

func (a *agent) carryOut(o Order) (Answer, error) {
	var b bytes.Buffer
	switch o.Verb {
	case ShowHosts:
		a.showHosts(&b, time.Now())
	case ShowHostStats:
		a.stats.show(&b)
	case ShowRelays:
		a.showRelays(&b, time.Now())
	case ShowRoutes:
		a.showRoutes(&b, time.Now())
	case ShowPaused:
		a.pauses.show(&b)
	case ShowTLSReports:
		for _, r := range a.reports.list(strings.ToLower(o.Domain)) {
			text, err := json.Marshal(r)
			if err != nil {
				return Answer{}, err
			}
			b.Write(append(text, '\n'))
		}
	case ResumeRoute:
		key, changed := a.routes.enable(o.Number, time.Now())
		if changed {
			a.book.open(key)
			a.enabled(key)
		}
		return Answer{Changed: changed}, nil
	default:
		key, err := pauseKeyOf(o)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Changed: a.pauses.set(key, o.Verb == Pause)}, nil
	}
	text := b.String()
	if len(text) > maxShown {
		text = text[:strings.LastIndexByte(text[:maxShown], '\n')+1] + "...\n"
	}
	return Answer{Text: text}, nil
}

// A pauseKey is what the administrator stops: mail from a local address for a
// domain. The invalid address is mail for which the system chooses one.
type pauseKey struct {
	source netip.Addr
	domain string
}

func pauseKeyOf(o Order) (pauseKey, error) {
	addr, err := netip.ParseAddr(strings.Trim(o.Source, "[]"))
	if err != nil || o.Domain == "" {
		return pauseKey{}, errors.New("an address and a domain are needed")
	}
	if addr = addr.Unmap().WithZone(""); addr.IsUnspecified() {
		addr = netip.Addr{}
	}
	return pauseKey{addr, strings.ToLower(o.Domain)}, nil
}

// pauses are what the administrator has stopped.
type pauses struct {
	mu     sync.Mutex
	paused map[pauseKey]bool
}

// restorePauses asks the queue for what those who were mta before had been told
// to stop. While the queue cannot be asked it hands out nothing either.
func (a *agent) restorePauses(ctx context.Context) {
	text, err := a.queue.PausedRoutes(ctx)
	for err != nil && !errors.As(err, new(imsg.RemoteError)) {
		select {
		case <-time.After(time.Second):
			text, err = a.queue.PausedRoutes(ctx)
		case <-ctx.Done():
			return
		}
	}
	if err != nil {
		a.log.Warn("mta: mail that was paused is sent again", "error", err)
	}
	for line := range strings.Lines(text) {
		source, domain, _ := strings.Cut(strings.TrimSuffix(line, "\n"), pausedArrow)
		key, err := pauseKeyOf(Order{Source: source, Domain: domain})
		if err != nil {
			a.log.Warn("mta: mail that was paused is sent again", "route", strings.TrimSpace(line), "error", err)
			continue
		}
		a.pauses.set(key, true)
	}
}

// pausedArrow parts source and domain of a pause.
const pausedArrow = " -> "

func (p *pauses) set(key pauseKey, on bool) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = p.paused[key] != on
	switch {
	case !on:
		delete(p.paused, key)
	case p.paused == nil:
		p.paused = map[pauseKey]bool{key: true}
	default:
		p.paused[key] = true
	}
	return changed
}

func (p *pauses) has(source netip.Addr, domain string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused[pauseKey{source, domain}]
}

func (p *pauses) show(b *bytes.Buffer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []string
	for key := range p.paused {
		source := netip.IPv4Unspecified()
		if key.source.IsValid() {
			source = key.source
		}
		lines = append(lines, fmt.Sprintf("%s%s%s\n", source, pausedArrow, key.domain))
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
}

// hostStats remembers what became of the last mail for each domain.
type hostStats struct {
	mu    sync.Mutex
	last  map[string]hostStat
	swept time.Time
}

type hostStat struct {
	at   time.Time
	text string
}

// maxHostStats bounds the domains that are remembered.
const maxHostStats = 50_000

func (h *hostStats) set(domain, text string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = make(map[string]hostStat)
	}
	if len(h.last) >= sweepFrom && now.Sub(h.swept) >= sweepEvery {
		h.swept = now
		maps.DeleteFunc(h.last, func(_ string, s hostStat) bool { return now.Sub(s.at) > hostMemory })
	}
	if _, known := h.last[domain]; known || len(h.last) < maxHostStats {
		h.last[domain] = hostStat{now, shorten(text, 200)}
	}
}

func (h *hostStats) show(b *bytes.Buffer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, domain := range slices.Sorted(maps.Keys(h.last)) {
		if s := h.last[domain]; time.Since(s.at) <= hostMemory {
			fmt.Fprintf(b, "%s|%d|%s\n", domain, s.at.Unix(), s.text)
		}
	}
}

// since returns how long ago t was as lists show it.
func since(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return now.Sub(t).Round(time.Second).String()
}

func (a *agent) showHosts(b *bytes.Buffer, now time.Time) {
	type host struct {
		name   string
		routes int
		used   time.Time
	}
	hosts := make(map[netip.Addr]*host)
	a.routes.each(func(key routeKey, r *route) {
		h := hosts[key.host]
		if h == nil {
			h = new(host)
			hosts[key.host] = h
		}
		h.routes++
		h.name = cmp.Or(r.name, h.name)
		if r.used.After(h.used) {
			h.used = r.used
		}
	})
	for _, addr := range slices.SortedFunc(maps.Keys(hosts), netip.Addr.Compare) {
		h, n := hosts[addr], a.book.conns(hostKey{addr})
		fmt.Fprintf(b, "%s %s refcount=%d nconn=%d lastconn=%s\n", addr, cmp.Or(h.name, "<unknown>"), h.routes+n, n, since(now, h.used))
	}
}

// showRoutes prints each route with the letters of its state: new, disabled,
// about to be used, kept open.
func (a *agent) showRoutes(b *bytes.Buffer, now time.Time) {
	kept := make(map[routeKey]bool)
	a.mu.Lock()
	for key := range a.idle {
		if key, ok := key.(routeKey); ok {
			kept[key] = true
		}
	}
	a.mu.Unlock()
	lines := make(map[uint32]string)
	a.routes.each(func(key routeKey, r *route) {
		disabled := now.Before(r.until)
		timeout := "-"
		if disabled {
			timeout = r.until.Sub(now).Round(time.Second).String()
		}
		flags := []byte("----")
		for i, on := range []bool{!r.valid, disabled, r.trying, kept[key]} {
			if on {
				flags[i] = "NDQK"[i]
			}
		}
		source := "[]"
		if key.source.IsValid() {
			source = key.source.String()
		}
		lines[r.id] = fmt.Sprintf("%d. %s <-> %s (%s) %s nconn=%d nerror=%d penalty=%d timeout=%s\n", r.id, source, key.host,
			cmp.Or(r.name, "<unknown>"), flags, a.book.conns(key), r.errors, r.failures, timeout)
	})
	for _, id := range slices.Sorted(maps.Keys(lines)) {
		b.WriteString(lines[id])
	}
}

// String names a relay as lists show it.
func (r *relay) String() string {
	text := "[relay:" + r.dest.name + ",action=" + r.action.Name + "," + r.dest.mode.String()
	if r.dest.port != 0 {
		text += fmt.Sprintf(",port=%d", r.dest.port)
	}
	if r.dest.label != "" {
		text += ",auth=" + r.dest.label
	}
	if r.dest.backup != "" {
		text += ",backup=" + r.dest.backup
	}
	return text + "]"
}

func (a *agent) showRelays(b *bytes.Buffer, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	connectors := a.book.connectors()
	lines := make([]string, 0, len(a.relays))
	for _, r := range a.relays {
		wait := "-"
		if r.blocked {
			wait = "limit"
		}
		began := a.book.began(relayKey{r})
		text := fmt.Sprintf("%s refcount=%d ntask=%d nconn=%d lastconn=%s timeout=- wait=%s\n",
			r, len(r.waiting)+r.conns, len(r.waiting), r.conns, since(now, began), wait)
		for _, key := range connectors[r] {
			source := "[]"
			if key.source.IsValid() {
				source = key.source.String()
			}
			flags := "-"
			if a.pauses.has(key.source, r.dest.name) {
				flags = "blocked"
			}
			n := a.book.conns(key)
			text += fmt.Sprintf("  connector %s refcount=%d nconn=%d lastconn=%s timeout=- flags=%s\n", source, n, n, since(now, a.book.began(key)), flags)
		}
		lines = append(lines, text)
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
}

// connectors returns the sources from which each relay has sessions.
func (b *book) connectors() map[*relay][]connectorKey {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[*relay][]connectorKey)
	for key, u := range b.usages {
		if c, ok := key.(connectorKey); ok && u.conns > 0 {
			all[c.relay] = append(all[c.relay], c)
		}
	}
	for _, l := range all {
		slices.SortFunc(l, func(x, y connectorKey) int { return x.source.Compare(y.source) })
	}
	return all
}

// began returns when the last connection under key began.
func (b *book) began(key any) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u := b.usages[key]; u != nil {
		return u.began
	}
	return time.Time{}
}
