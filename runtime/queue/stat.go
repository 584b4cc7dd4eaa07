package queue

import (
	"log/slog"
	"strings"
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/stat"
)

var (
	queued       = stat.Counter("smtpd_queue_messages_total", "Messages that were accepted and are on disk, by where they came from.", "from")
	incomingEnvs = stat.Counter("smtpd_queue_envelopes_total", "Envelopes that were accepted.")
	present      = stat.Gauge("smtpd_queue_envelopes", "Envelopes in the queue.")
	inMemory     = stat.Gauge("smtpd_queue_memory_envelopes", "Envelopes that are due and in memory.")
	handedOut    = stat.Gauge("smtpd_queue_inflight_envelopes", "Envelopes that agents have.")
	deliveries   = stat.Counter("smtpd_queue_deliveries_total", "Tries that ended, by agent and result.", "agent", "result")
	endings      = stat.Counter("smtpd_queue_ended_total", "Envelopes that left the queue other than by a try.", "why")
	reports      = stat.Counter("smtpd_queue_reports_total", "Reports that were ordered, by what they say.", "kind")
	commits      = stat.Counter("smtpd_queue_commits_total", "Steps that waited for the disk.")
	flushes      = stat.Counter("smtpd_queue_flushes_total", "Flushes of the log, each for all the steps that waited for it.")
	commitTime   = stat.Histogram("smtpd_queue_commit_seconds", "How long an accepted message waited for the disk.")
	fullDisk     = stat.Gauge("smtpd_queue_disk_full", "1 while no mail is taken because the disk is nearly full.")
)

// What is counted with every mail is looked up once.
var (
	flushed   = flushes.WithLabelValues()
	committed = commits.WithLabelValues()
	committal = commitTime.WithLabelValues()
	inQueue   = present.WithLabelValues()
	arrived   = incomingEnvs.WithLabelValues()
	inFlights = handedOut.WithLabelValues()
	known     = inMemory.WithLabelValues()
)

// kindNames are the kinds of reports as metrics have them.
var kindNames = [...]string{"", "failed", "delayed", "delivered", "relayed"}

// declare has numbers shown that are zero yet.
func declare() {
	for _, agent := range [...]string{"mda", "mta"} {
		for _, result := range [...]string{"ok", "tempfail", "permfail", "loop"} {
			deliveries.WithLabelValues(agent, result)
		}
	}
	for _, why := range [...]string{"expired", "removed", "returned"} {
		endings.WithLabelValues(why)
	}
	for _, kind := range kindNames[1:] {
		reports.WithLabelValues(kind)
	}
	fullDisk.WithLabelValues()
}

// countQueued counts a message that is on disk since now.
func countQueued(from string, evs []envelope.Envelope, began time.Time) {
	queued.WithLabelValues(from).Inc()
	arrived.Add(float64(len(evs)))
	inQueue.Add(float64(len(evs)))
	committal.Observe(time.Since(began).Seconds())
}

// countTry counts the end of a try.
func countTry(ev *envelope.Envelope, o Outcome) {
	deliveries.WithLabelValues(ev.Type.String(), strings.ToLower(o.String())).Inc()
}

// A counter is a Store that can say how much it holds.
type counter interface {
	// count returns a function that counts what is stored now.
	count() func() (int, error)
}

// countPresent adds what the store holds to the metrics, in the background:
// the store of a large queue is read for seconds.
func countPresent(s Store, log *slog.Logger) (run func()) {
	c, ok := s.(counter)
	if !ok {
		return func() {}
	}
	all := c.count()
	return func() {
		n, err := all()
		if err != nil {
			log.Warn("queue: envelopes cannot be counted", "error", err)
		}
		inQueue.Add(float64(n))
	}
}
