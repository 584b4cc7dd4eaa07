package mda

import (
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/parent"
	"smtpd/runtime/queue"
	"smtpd/runtime/stat"
)

var (
	deliveries   = stat.Counter("smtpd_mda_deliveries_total", "Local deliveries that have ended, by method and result.", "method", "result")
	deliveryTime = stat.Histogram("smtpd_mda_delivery_seconds", "How long local deliveries took once it was their turn, by method.", "method")
	waitTime     = stat.Histogram("smtpd_mda_wait_seconds", "How long local deliveries waited for their turn.")

	envelopesHeld = stat.Gauge("smtpd_mda_envelopes", "Envelopes that local delivery has been given and has not ended.")
	waiting       = stat.Gauge("smtpd_mda_waiting", "Local deliveries that wait for their turn.").WithLabelValues()
	running       = stat.Gauge("smtpd_mda_running", "Local deliveries that are being made.").WithLabelValues()
	usersActive   = stat.Gauge("smtpd_mda_users", "Users with local deliveries that wait or are being made.").WithLabelValues()
)

// unknownMethod is that of a delivery whose action is gone.
const unknownMethod = "unknown"

// methodNames are the values of the label method.
var methodNames = map[parent.Method]string{
	parent.Maildir: "maildir", parent.Mbox: "mbox", parent.Command: "mda", parent.LMTP: "lmtp",
}

// methodOf returns how ev is delivered, for people who count.
func (a *agent) methodOf(ev *envelope.Envelope) string {
	action, ok := a.actions[ev.Action]
	if !ok {
		return unknownMethod
	}
	var d parent.Delivery
	if _, err := a.method(&d, ev, action); err != nil {
		return unknownMethod
	}
	return methodNames[d.Method]
}

// count counts the end of a delivery of ev that began its turn at start.
func (a *agent) count(ev *envelope.Envelope, r *queue.Result, took time.Duration) {
	method := a.methodOf(ev)
	deliveries.WithLabelValues(method, r.Outcome.String()).Inc()
	if took > 0 {
		deliveryTime.WithLabelValues(method).Observe(took.Seconds())
	}
}
