package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/net/netutil"
)

// What a client of the metrics listener may take.
const (
	maxScrapes      = 4  // at once
	maxScrapers     = 64 // connections of a listener
	maxScrapeHeader = 8 << 10
	scrapeTime      = 10 * time.Second // to be asked
	answerTime      = 30 * time.Second
	scraperIdle     = 2 * time.Minute
)

// An exporter serves GET /metrics on the listeners of one configuration.
type exporter struct{ server *http.Server }

// export serves on listeners until the exporter is closed.
func (a *agent) export(ctx context.Context, listeners []net.Listener) *exporter {
	gather := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return a.total(ctx) })
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gather, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, DisableCompression: true,
		ErrorLog: scrapeErrors{a.log},
	}))
	e := &exporter{&http.Server{
		Handler: mux, ReadTimeout: scrapeTime, WriteTimeout: answerTime, IdleTimeout: scraperIdle, MaxHeaderBytes: maxScrapeHeader,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug), // what a stranger sends is no event
	}}
	for _, ln := range listeners {
		a.running.Go(func() {
			if err := e.server.Serve(netutil.LimitListener(ln, maxScrapers)); !errors.Is(err, http.ErrServerClosed) {
				a.log.Error("control: metrics listener", "address", ln.Addr().String(), "error", err)
			}
		})
	}
	return e
}

// close ends the listeners and their connections.
func (e *exporter) close() { e.server.Close() }

// scrapeErrors logs what went wrong while numbers were gathered.
type scrapeErrors struct{ log *slog.Logger }

func (s scrapeErrors) Println(v ...any) { s.log.Warn("control: metrics", "error", v) }
