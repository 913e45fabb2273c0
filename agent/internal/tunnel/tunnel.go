// Package tunnel finds DNS tunnels: a container that asks for very many names below one registered domain, whose texts look
// like data. It looks at what the kernel tells of queries and answers, decides nothing, and keeps a bounded memory however
// many names, domains and containers there are. It imports probes/event.
package tunnel

import (
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/sallyport/sallyport/probes/event"
)

// Config says what a tunnel is.
type Config struct {
	Names   int           // different names below one domain, of one container, within Window; 0: nothing is looked for
	Entropy float64       // bits a character of what stands before the domain (Shannon), on average over these names, at least
	Window  time.Duration // begins with the first name of a domain
	Except  []string      // domains below which nothing is looked for
}

// What is kept at most.
const (
	containers = 4096 // what comes for more is not looked at (open: this only tells), until one goes
	domains    = 16   // of one container: the one with the fewest names goes first
	spread     = 16   // bits for each name that makes a tunnel: of names that are counted, some 3 % count as one already seen
)

// Watcher looks for tunnels. Its methods are safe for use by several goroutines.
type Watcher struct {
	cfg  Config
	seed maphash.Seed // names that collide cannot be chosen

	mu          sync.Mutex
	byContainer map[uint64]map[string]*domain
}

// domain is what a container has asked for below a registered domain.
type domain struct {
	began   time.Time
	names   int
	entropy float64  // sum
	seen    []uint64 // a bit for each hash of a name
	told    bool     // in this window
}

// New makes a watcher.
func New(cfg Config) *Watcher {
	return &Watcher{cfg: cfg, seed: maphash.MakeSeed(), byContainer: map[uint64]map[string]*domain{}}
}

// Observe takes in an event. It returns another one, and true, when what was told so far is a tunnel: once in a window.
func (w *Watcher) Observe(e *event.Event) (event.Event, bool) {
	container := e.Subject.Container
	switch {
	case w.cfg.Names == 0 || container == 0:
		return event.Event{}, false
	case e.Kind == event.KindCgroup && e.Removed:
		w.forget(container)
		return event.Event{}, false
	case e.Kind != event.KindDNS || e.Query == "":
		return event.Event{}, false
	}
	below, suffix, ok := w.split(e.Query)
	if !ok {
		return event.Event{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.domain(container, suffix, e.Time)
	if d == nil || !d.add(maphash.String(w.seed, below)) {
		return event.Event{}, false
	}
	d.entropy += entropy(below)
	if d.told || d.names < w.cfg.Names || d.entropy/float64(d.names) < w.cfg.Entropy {
		return event.Event{}, false
	}
	d.told = true
	return event.Event{
		Time: e.Time, Kind: event.KindTunnel, Subject: e.Subject, Severity: event.SeverityCritical, NetNS: e.NetNS,
		Remote: e.Remote, Query: suffix, Told: uint32(d.names),
	}, true
}

// split cuts a name where its registered domain begins. Returns false where nothing is before it, or nothing is looked for.
func (w *Watcher) split(name string) (below, suffix string, ok bool) {
	suffix, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil || len(suffix) >= len(name) {
		return "", "", false // a public suffix itself, no name, or nothing below it
	}
	if slices.ContainsFunc(w.cfg.Except, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) }) {
		return "", "", false
	}
	return name[:len(name)-len(suffix)-1], suffix, true
}

// domain is what is kept of a domain, in a window that time is in. nil: there are too many containers.
func (w *Watcher) domain(container uint64, suffix string, now time.Time) *domain {
	all := w.byContainer[container]
	if all == nil {
		if len(w.byContainer) == containers {
			return nil
		}
		all = map[string]*domain{}
		w.byContainer[container] = all
	}
	d := all[suffix]
	if d != nil && now.Sub(d.began) < w.cfg.Window {
		return d
	}
	if d == nil && len(all) == domains {
		delete(all, fewest(all))
	}
	d = &domain{began: now, seen: make([]uint64, (w.cfg.Names*spread+63)/64)}
	all[strings.Clone(suffix)] = d // not the event's whole text
	return d
}

// fewest is the domain with the fewest names.
func fewest(all map[string]*domain) (least string) {
	for suffix, d := range all {
		if least == "" || d.names < all[least].names {
			least = suffix
		}
	}
	return least
}

func (w *Watcher) forget(container uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byContainer, container)
}

// add says whether a name is new, and counts it.
func (d *domain) add(hash uint64) bool {
	bit := hash % uint64(len(d.seen)*64)
	if d.seen[bit/64]>>(bit%64)&1 == 1 {
		return false
	}
	d.seen[bit/64] |= 1 << (bit % 64)
	d.names++
	return true
}

// entropy is how many bits a character of a text has, dots left out.
func entropy(text string) (bits float64) {
	var count [256]int
	total := 0
	for _, c := range []byte(text) {
		if c != '.' {
			count[c]++
			total++
		}
	}
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(total)
			bits -= p * math.Log2(p)
		}
	}
	return bits
}
