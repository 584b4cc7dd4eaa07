package mta

import (
	"smtpd/runtime/queue"
	"smtpd/runtime/stat"
)

var (
	deliveries  = stat.Counter("smtpd_mta_deliveries_total", "Tries to send mail on that have ended, by result.", "result")
	connections = stat.Counter("smtpd_mta_connections_total", "Calls of other hosts, by whether mail could be sent then: ready, failed, abandoned.", "result")
	bytesSent   = stat.Counter("smtpd_mta_message_bytes_total", "Bytes of messages that were sent to their end.").WithLabelValues()

	sessionsOpen  = stat.Gauge("smtpd_mta_sessions", "Outgoing sessions that are ready for mail.").WithLabelValues()
	relaysKnown   = stat.Gauge("smtpd_mta_relays", "Destinations with mail or with sessions.").WithLabelValues()
	tasksWaiting  = stat.Gauge("smtpd_mta_tasks", "Messages that wait for a session.").WithLabelValues()
	tasksRunning  = stat.Gauge("smtpd_mta_tasks_running", "Messages that are being sent.").WithLabelValues()
	envelopesHeld = stat.Gauge("smtpd_mta_envelopes", "Envelopes that the queue waits for.").WithLabelValues()
	routesKnown   = stat.Gauge("smtpd_mta_routes", "Ways to hosts that are remembered.").WithLabelValues()
)

// The results of deliveries, which are few and counted often.
var delivered = map[queue.Outcome]interface{ Inc() }{
	queue.Delivered: deliveries.WithLabelValues("ok"), queue.TempFail: deliveries.WithLabelValues("tempfail"),
	queue.PermFail: deliveries.WithLabelValues("permfail"), queue.Loop: deliveries.WithLabelValues("loop"),
}
