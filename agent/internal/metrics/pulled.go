package metrics

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxSites bounds the series by site. Sites are the programs' own enum; more than this means that
// something is wrong, and then the rest is summed up as "other".
const maxSites = 128

// siteNames remembers which sites have a series.
type siteNames struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (s *siteNames) bounded(site string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.seen[site]:
		return site
	case len(s.seen) >= maxSites || !printable(site):
		return "other"
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	s.seen[site] = true
	return site
}

// printable reports whether a site can be a label: short, printable ASCII.
func printable(site string) bool {
	const longest = 64
	if site == "" || len(site) > longest {
		return false
	}
	for i := range len(site) {
		if site[i] <= ' ' || site[i] > '~' {
			return false
		}
	}
	return true
}

// pulled collects what other parts of the agent count themselves.
type pulled struct {
	cfg   Config
	sites siteNames

	containers, sessions, revision, stale, kernelErrors       *prometheus.Desc
	queued, capacity, published, sent, dropped, retries, down *prometheus.Desc
}

func newPulled(cfg Config) *pulled {
	desc := func(word, name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, word, name), help, labels, nil)
	}
	return &pulled{
		cfg:          cfg,
		containers:   desc("label", "containers", "Running containers that are known by name."),
		sessions:     desc("label", "sessions", "Open exec sessions."),
		revision:     desc("judge", "policy_revision", "Revision of the tables in force."),
		stale:        desc("kube", "stale_seconds", "For how long the cluster's API has not been heard; 0 while it is."),
		kernelErrors: desc("", "kernel_errors_total", "Errors that the kernel programs counted, by site.", "site"),
		queued:       desc("tell", "sink_queued", "Records that wait for the sink.", "sink"),
		capacity:     desc("tell", "sink_queue_capacity", "Records that can wait for the sink.", "sink"),
		published:    desc("tell", "sink_published_total", "Records that were meant for the sink.", "sink"),
		sent:         desc("tell", "sink_sent_total", "Records that the sink took.", "sink"),
		dropped:      desc("tell", "sink_lost_total", "Records that the sink did not get.", "sink"),
		retries:      desc("tell", "sink_retries_total", "Attempts to send that failed and were repeated.", "sink"),
		down:         desc("tell", "sink_down", "1 while the sink cannot be reached.", "sink"),
	}
}

// Describe sends every description.
func (p *pulled) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		p.containers, p.sessions, p.revision, p.stale, p.kernelErrors,
		p.queued, p.capacity, p.published, p.sent, p.dropped, p.retries, p.down,
	} {
		out <- d
	}
}

// Collect reads the sources.
func (p *pulled) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	if p.cfg.Containers != nil {
		gauge(p.containers, float64(p.cfg.Containers()))
	}
	if p.cfg.Sessions != nil {
		gauge(p.sessions, float64(p.cfg.Sessions()))
	}
	if p.cfg.Revision != nil {
		gauge(p.revision, float64(p.cfg.Revision()))
	}
	if p.cfg.Stale != nil {
		if stale, cluster := p.cfg.Stale(); cluster {
			gauge(p.stale, stale.Seconds())
		}
	}
	if p.cfg.Sinks != nil {
		for _, s := range p.cfg.Sinks() {
			gauge(p.queued, float64(s.Queued), s.Sink)
			gauge(p.capacity, float64(s.Capacity), s.Sink)
			counter(p.published, s.Published, s.Sink)
			counter(p.sent, s.Sent, s.Sink)
			counter(p.dropped, s.Lost, s.Sink)
			counter(p.retries, s.Retries, s.Sink)
			down := 0.0
			if s.Down {
				down = 1
			}
			gauge(p.down, down, s.Sink)
		}
	}
	if p.cfg.KernelErrors != nil {
		p.collectKernelErrors(out, counter)
	}
}

func (p *pulled) collectKernelErrors(out chan<- prometheus.Metric, counter func(*prometheus.Desc, uint64, ...string)) {
	counts, err := p.cfg.KernelErrors()
	if err != nil {
		// The scrape goes on without these series and says so; a zero would look like "no errors".
		out <- prometheus.NewInvalidMetric(p.kernelErrors, fmt.Errorf("reading kernel error counters: %w", err))
		return
	}
	sums := make(map[string]uint64, len(counts))
	for site, n := range counts {
		sums[p.sites.bounded(site)] += n
	}
	for site, n := range sums {
		counter(p.kernelErrors, n, site)
	}
}
