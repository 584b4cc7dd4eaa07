package engine

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"smtpd/compile"
)

// A family is a kind of rule set that grows.
type family struct {
	name string
	make func(w *world, n int)
	// tx returns the transaction that only rule i decides.
	tx func(i, n int) Transaction
}

var families = []family{
	{"hosting", hosting, hostingTx}, // a domain a rule, some with a source or a login
	{"mixed", mixed, mixedTx},       // a source, a sender or a domain a rule, interleaved
	{"grid", grid, gridTx},          // sources times domains
}

func hosting(w *world, n int) {
	near := is(w.table("192.0.2.0/24"))
	for i := range n {
		r := w.anyone()
		r.For = compile.For{Kind: compile.ForDomain, Criterion: is(w.table(fmt.Sprintf("d%07d.example", i)))}
		switch i % 10 {
		case 3:
			r.From = compile.From{Kind: compile.FromSrc, Criterion: near}
		case 7:
			r.Auth = is(0)
		}
		w.rs.Rules = append(w.rs.Rules, r)
	}
}

func hostingTx(i, _ int) Transaction {
	tx := outsider()
	tx.Addr, tx.Auth, tx.User = netip.MustParseAddr("192.0.2.9"), true, "bob"
	tx.Rcpt.Domain = fmt.Sprintf("d%07d.example", i)
	return tx
}

func mixed(w *world, n int) {
	for i := range n {
		r := w.anyone()
		switch i % 3 {
		case 0:
			r.From = compile.From{Kind: compile.FromSrc, Criterion: is(w.table(mixedAddr(i).String()))}
		case 1:
			r.MailFrom = is(w.table(fmt.Sprintf("u@s%07d.example", i)))
		case 2:
			r.For = compile.For{Kind: compile.ForDomain, Criterion: is(w.table(fmt.Sprintf("d%07d.example", i)))}
		}
		w.rs.Rules = append(w.rs.Rules, r)
	}
}

func mixedAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func mixedTx(i, _ int) Transaction {
	tx := outsider()
	switch i % 3 {
	case 0:
		tx.Addr = mixedAddr(i)
	case 1:
		tx.Sender = Address{"u", fmt.Sprintf("s%07d.example", i)}
	case 2:
		tx.Rcpt.Domain = fmt.Sprintf("d%07d.example", i)
	}
	return tx
}

func side(n int) int {
	s := 1
	for (s+1)*(s+1) <= n {
		s++
	}
	return s
}

func grid(w *world, n int) {
	s := side(n)
	var sources, domains []compile.Criterion
	for i := range s {
		sources = append(sources, is(w.table(fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255))))
		domains = append(domains, is(w.table(fmt.Sprintf("d%d.example", i))))
	}
	for i := range s * s {
		r := w.anyone()
		r.From = compile.From{Kind: compile.FromSrc, Criterion: sources[i/s]}
		r.For = compile.For{Kind: compile.ForDomain, Criterion: domains[i%s]}
		w.rs.Rules = append(w.rs.Rules, r)
	}
}

func gridTx(i, n int) Transaction {
	s := side(n)
	i %= s * s
	tx := outsider()
	tx.Addr = netip.AddrFrom4([4]byte{10, byte(i / s >> 8), byte(i / s), 7})
	tx.Rcpt.Domain = fmt.Sprintf("d%d.example", i%s)
	return tx
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkDecide measures what is done for every RCPT, by rule sets of
// growing size in which a random rule decides. It reports what the index
// takes beyond the rule table, and the processor time that building it takes.
func BenchmarkDecide(b *testing.B) {
	for _, f := range families {
		for _, n := range []int{10, 1000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("engine=indexed/family=%s/rules=%d", f.name, n), func(b *testing.B) {
				w := newWorld()
				f.make(w, n)
				before, start := heap(), processor(b)
				e := New(&w.rs)
				build := processor(b) - start
				size := heap() - before
				benchmarkDecide(b, e, f, n)
				b.ReportMetric(float64(size)/float64(n), "B/rule")
				b.ReportMetric(build.Seconds(), "s/build")
			})
		}
	}
	for _, f := range families {
		for _, n := range []int{10, 1000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("engine=linear/family=%s/rules=%d", f.name, n), func(b *testing.B) {
				w := newWorld()
				f.make(w, n)
				benchmarkDecide(b, NewLinear(&w.rs), f, n)
			})
		}
	}
}

// processor returns the processor time that the process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchmarkDecide(b *testing.B, e Engine, f family, n int) {
	r := rand.New(rand.NewPCG(3, 3))
	txs := make([]Transaction, min(n, 8192))
	for i := range txs {
		txs[i] = f.tx(r.IntN(n), n)
	}
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	start := processor(b)
	for b.Loop() {
		if d := e.Decide(ctx, &txs[i%len(txs)], nil); d.Outcome != Accept {
			b.Fatalf("%+v: %+v", txs[i%len(txs)], d)
		}
		i++
	}
	b.ReportMetric(float64(processor(b)-start)/float64(i), "cpu-ns/op") // others may use the machine
}

// BenchmarkWith measures what a file of a hundred thousand domains costs that
// has changed, beside a million rules that have not, and what a decision
// takes that looks into it.
func BenchmarkWith(b *testing.B) {
	w := newWorld()
	hosting(w, 1_000_000)
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("f%07d.example", i)
	}
	entries := entriesOf(keys...)
	file := w.add(compile.Table{Kind: compile.List, Backend: "static", Path: "/f", Entries: entries})
	r := w.anyone()
	r.For = compile.For{Kind: compile.ForDomain, Criterion: is(file)}
	w.rs.Rules = append(w.rs.Rules, r)
	e := New(&w.rs)
	b.Run("swap", func(b *testing.B) {
		for b.Loop() {
			e = e.With(file, NewStatic(&compile.Table{Entries: entries}, '+'))
		}
	})
	b.Run("decide", func(b *testing.B) {
		tx := outsider()
		tx.Rcpt.Domain = keys[len(keys)/2]
		b.ReportAllocs()
		for b.Loop() {
			if d := e.Decide(b.Context(), &tx, nil); d.Rule != len(w.rs.Rules)-1 {
				b.Fatal(d)
			}
		}
	})
}

// A lookupFamily is a kind of table that grows.
type lookupFamily struct {
	name    string
	service Service
	entry   func(i int) string
	key     func(i int) string // matched by entry i
}

var lookupFamilies = []lookupFamily{
	{"alias", Alias, func(i int) string { return fmt.Sprintf("user%07d", i) }, nil},
	{"names", Domain, func(i int) string { return fmt.Sprintf("d%07d.example", i) }, nil},
	{"wildcards", Domain, func(i int) string { return fmt.Sprintf("*.d%07d.example", i) }, func(i int) string { return fmt.Sprintf("mail.d%07d.example", i) }},
	{"stars", Domain, func(i int) string { return fmt.Sprintf("mail*.d%07d.*.example", i) }, func(i int) string { return fmt.Sprintf("mail7.d%07d.net.example", i) }},
	{"addresses", NetAddr, func(i int) string { return mixedAddr(i).String() }, nil},
	{"networks", NetAddr, func(i int) string { return fmt.Sprintf("2001:db8:%x:%x::/64", i>>16, i&0xffff) }, func(i int) string { return fmt.Sprintf("[2001:db8:%x:%x::25]", i>>16, i&0xffff) }},
	{"users", MailAddr, func(i int) string { return fmt.Sprintf("user%07d@example.org", i) }, func(i int) string { return fmt.Sprintf("user%07d+tag@example.org", i) }},
	{"userstars", MailAddr, func(i int) string { return fmt.Sprintf("user%07d@mail*.example.org", i) }, func(i int) string { return fmt.Sprintf("user%07d@mail2.example.org", i) }},
	{"mixed", MailAddr, mixedMail, func(i int) string { return "user0000007@x." + fmt.Sprintf("d%07d.example", i) }},
	{"regex", Regex, func(i int) string { return fmt.Sprintf(`^[a-z0-9]+@d%07d\.example$`, i) }, func(i int) string { return fmt.Sprintf("bob@d%07d.example", i) }},
}

// mixedMail has every kind of entry for addresses; the key of each is found
// by it or by one that holds more.
func mixedMail(i int) string {
	return fmt.Sprintf([]string{"@x.d%07d.example", "@*.d%07d.example", "user0000007@*.d%07d.example", "@x*.d%07d.example"}[i%4], i)
}

// BenchmarkLookup measures lookups in tables of a million entries, which lka
// answers and the engine asks for: each finds one of some thousand entries.
func BenchmarkLookup(b *testing.B) {
	const n = 1_000_000
	for _, f := range lookupFamilies {
		b.Run("table="+f.name, func(b *testing.B) {
			keys := make([]string, n)
			for i := range keys {
				keys[i] = f.entry(i)
			}
			entries := entriesOf(keys...)
			start := processor(b)
			s := NewStatic(&compile.Table{Entries: entries}, '+')
			s.Prepare(f.service)
			build := processor(b) - start
			r := rand.New(rand.NewPCG(5, 5))
			probes := make([]string, 4096) // what a Set of expressions keeps compiled
			for i := range probes {
				n := r.IntN(n)
				if probes[i] = f.entry(n); f.key != nil {
					probes[i] = f.key(n)
				}
			}
			b.ReportAllocs()
			i := 0
			start = processor(b)
			for b.Loop() {
				if ok, err := s.Check(f.service, probes[i%len(probes)]); !ok || err != nil {
					b.Fatal(probes[i%len(probes)], err)
				}
				i++
			}
			b.ReportMetric(float64(processor(b)-start)/float64(i), "cpu-ns/op")
			b.ReportMetric(build.Seconds(), "s/build")
		})
	}
}
