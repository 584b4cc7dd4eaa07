// Package stat owns the numbers that the service counts: each component
// declares its counters here, and control gathers those of all processes for
// `smtpctl show stats` and for the metrics listener.
//
// A metric is declared once, as a variable of the package that counts it, and
// named smtpd_COMPONENT_WHAT, counters with the ending _total, moments as
// seconds since 1970 with the ending _timestamp_seconds. Labels must have few
// values: names from the configuration, outcomes, reasons; never an address, a
// user or a host, which a stranger could multiply.
//
// What a process has counted travels as bytes (Encode, Decode); a Total is the
// sum over the processes, and over those that have ended.
package stat

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// One process counts in one registry. The components that share a process
// share it, and every process knows the metrics of all: what it does not
// count itself is zero, so the sum over the processes is the service's.
var registry = prometheus.NewRegistry()

// Counter declares a number that only grows, one for each value of labels.
func Counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	registry.MustRegister(c)
	if len(labels) == 0 {
		c.WithLabelValues() // nothing yet is a number too
	}
	return c
}

// Gauge declares a number that goes up and down.
func Gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	registry.MustRegister(g)
	if len(labels) == 0 {
		g.WithLabelValues()
	}
	return g
}

// Histogram declares a distribution of seconds from 100 microseconds to 100
// seconds.
func Histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(1e-4, 10, 7),
	}, labels)
	registry.MustRegister(h)
	if len(labels) == 0 {
		h.WithLabelValues()
	}
	return h
}

// Gather returns what this process has counted, sorted by name.
func Gather() ([]*dto.MetricFamily, error) {
	return registry.Gather()
}
