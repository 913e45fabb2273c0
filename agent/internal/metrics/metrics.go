// Package metrics counts what the agent saw, did and lost, and serves it to Prometheus from a
// registry of its own. The words of the pipeline are the second part of every name:
// sallyport_label_, sallyport_judge_, sallyport_gate_ and sallyport_tell_.
//
// No label ever carries text from a workload, so the number of series is bounded by the agent's
// own tables. It imports probes/event and alert and no other package of this module.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/agent/internal/alert"
)

// Config says what to read at each scrape. A function that is nil leaves its metrics out. They are
// called from the server's goroutines and must be safe for that.
type Config struct {
	Log          logrus.FieldLogger                // required
	Version      string                            // of the agent
	Sinks        func() []alert.Stats              // alert.Fanout.Stats
	Containers   func() int                        // running containers that have a name
	Sessions     func() int                        // open sessions
	KernelErrors func() (map[string]uint64, error) // per-site error counters of the programs, by site
	Revision     func() uint64                     // of the tables in force
	Stale        func() (time.Duration, bool)      // for how long the cluster's API has not been heard; false: there is no cluster
}

// Metrics is the set of counters. Its methods are safe for use by several goroutines.
type Metrics struct {
	log          logrus.FieldLogger
	registry     *prometheus.Registry
	events       *prometheus.CounterVec
	judged       *prometheus.CounterVec
	gated        *prometheus.CounterVec
	lost         *prometheus.CounterVec
	tampered     *prometheus.CounterVec
	reloads      prometheus.Counter
	reloadErrors prometheus.Counter
	sites        siteNames
	found        counterCache
}

const namespace = "sallyport"

// New makes the metrics and their registry.
func New(cfg Config) (*Metrics, error) {
	if cfg.Log == nil {
		return nil, errors.New("making the metrics: no logger")
	}
	counters := func(word, name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: word, Name: name, Help: help}, labels)
	}
	m := &Metrics{
		log:      cfg.Log.WithField("component", "metrics"),
		registry: prometheus.NewRegistry(),
		events:   counters("tell", "events_total", "Events read from the kernel, by kind.", "kind"),
		judged:   counters("judge", "verdicts_total", "Socket calls that were judged and reported, by call, verdict and reason.", "call", "verdict", "reason"),
		gated:    counters("gate", "verdicts_total", "Packets and flows that were judged at the gate and reported, by verdict and reason.", "verdict", "reason"),
		lost:     counters("tell", "lost_events_total", "Events that were lost before the agent read them, by site.", "site"),
		tampered: counters("guard", "tampering_total", "Things of the agent's own that somebody took away or changed, by kind and whether they were put back.", "thing", "restored"),
		reloads: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: "judge", Name: "policy_reloads_total", Help: "Policy loads that were tried.",
		}),
		reloadErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: "judge", Name: "policy_reload_errors_total",
			Help: "Policy loads that failed; the last good policy stays in force.",
		}),
	}
	all := []prometheus.Collector{
		m.events, m.judged, m.gated, m.lost, m.tampered, m.reloads, m.reloadErrors,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Name: "build_info", Help: "Always 1; the label says which agent this is.",
			ConstLabels: prometheus.Labels{"version": cfg.Version},
		}, func() float64 { return 1 }),
		newPulled(cfg),
	}
	for _, c := range all {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

// Tampered counts one thing that somebody took away or changed; err is why it could not be put back, nil if it was.
func (m *Metrics) Tampered(thing string, err error) {
	m.tampered.WithLabelValues(thing, strconv.FormatBool(err == nil)).Inc()
}

// PolicyReloaded counts one attempt to load the policies; err is why it failed, nil if it did not.
func (m *Metrics) PolicyReloaded(err error) {
	m.reloads.Inc()
	if err != nil {
		m.reloadErrors.Inc()
	}
}

// Limits of the server. A scrape is small, and whoever asks is not trusted.
const (
	headerTimeout = 5 * time.Second
	scrapeTimeout = 10 * time.Second
	idleTimeout   = time.Minute
	endTimeout    = 2 * time.Second
	maxHeader     = 8 << 10
	maxScrapes    = 4
)

// Handler serves the metrics at any path.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            errorLog{m.log},
		ErrorHandling:       promhttp.ContinueOnError, // one source that fails does not hide the others
		Registry:            m.registry,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	})
}

// Serve answers GET /metrics on addr (host:port) until ctx is done. It returns nil at once when
// addr is empty: metrics are off then.
func (m *Metrics) Serve(ctx context.Context, addr string) error {
	if addr == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listening for metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      scrapeTimeout + headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	m.log.WithField("address", listener.Addr().String()).Info("serving metrics")
	select {
	case err := <-ended:
		return fmt.Errorf("serving metrics: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	err = server.Shutdown(end)
	if err != nil {
		err = server.Close() // a scrape that does not end is cut off
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("ending the metrics server: %w", err)
	}
	return nil
}

// errorLog hands the errors of a scrape to the agent's log.
type errorLog struct{ log logrus.FieldLogger }

// Println logs one error.
func (l errorLog) Println(v ...any) {
	l.log.WithField("error", fmt.Sprint(v...)).Warn("a metrics source did not answer")
}
