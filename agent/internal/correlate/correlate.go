// Package correlate joins what the kernel tells (cgroup ids, session ids, rule references) with the
// names that a runtime and the policies have for them. It owns the registry of containers, sessions
// and rules, those that went a while ago included, so that late events still find their names.
//
// Names are for the report only: nothing here decides what a process may do. It imports
// probes/event, runtime/identity, policy/compile, policy/flows and alert, no kernel and no runtime.
package correlate

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/identity"
)

// Config bounds what a Registry remembers. Zero values get the defaults.
type Config struct {
	Retain  time.Duration    // how long names outlive what they name; default 5 min
	MaxGone int              // how many that are gone are kept of each kind, oldest out first; default 8192
	Skew    time.Duration    // how far the kernel's and the runtime's start of one session may be apart; default 10 s
	Now     func() time.Time // clock; default time.Now
}

const (
	defaultRetain  = 5 * time.Minute
	defaultMaxGone = 8192
	defaultSkew    = 10 * time.Second
)

// Registry knows names. All methods are safe for use by several goroutines.
type Registry struct {
	cfg Config

	mu         sync.Mutex
	containers containers
	sessions   sessions
	callers    callers
	requests   requests
	rules      map[uint64]*ruleEntry
	swept      time.Time
}

// ruleEntry is a rule of the tables in force, or of earlier ones.
type ruleEntry struct {
	rule compile.Rule
	gone time.Time // zero while the rule is in force
}

// New makes an empty registry.
func New(cfg Config) *Registry {
	if cfg.Retain == 0 {
		cfg.Retain = defaultRetain
	}
	if cfg.MaxGone == 0 {
		cfg.MaxGone = defaultMaxGone
	}
	if cfg.Skew == 0 {
		cfg.Skew = defaultSkew
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Registry{
		cfg:        cfg,
		containers: newContainers(),
		sessions:   newSessions(cfg.Skew),
		callers:    callers{skew: cfg.Skew},
		rules:      map[uint64]*ruleEntry{},
		swept:      cfg.Now(),
	}
}

// Apply takes in one change that a runtime reported.
func (g *Registry) Apply(c identity.Change) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Now()
	switch c.Kind {
	case identity.ContainerCreated, identity.ContainerStarted:
		g.containers.put(c.Container, now)
	case identity.ContainerStopped, identity.ContainerRemoved:
		g.containers.stop(c.Container, now)
	case identity.ExecStarted, identity.ExecExited:
		// The end may be the first that is heard of an exec, so it names as well.
		g.sessions.named(c.Exec, g.containers.keyOfCgroup, now)
	case identity.Resynced:
		g.containers.resync(c.All, now)
	case identity.Disconnected:
		// What was known stays valid.
	}
	g.sweep(now)
}

// SetRules replaces the rules in force, with those of all rulesets of one revision; the same rule
// may come more than once. Earlier rules are remembered for Config.Retain.
func (g *Registry) SetRules(rules []compile.Rule) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Now()
	for _, r := range g.rules {
		if r.gone.IsZero() {
			r.gone = now
		}
	}
	for i := range rules {
		g.rules[rules[i].Ref] = &ruleEntry{rule: rules[i]}
	}
	g.sweep(now)
}

// Join puts names to an event. It also learns from events: of sessions when they start and end, and
// the path of a cgroup nobody has named yet. What is not known stays empty; later events of the
// same container or session get the name once it is known.
func (g *Registry) Join(e event.Event) *alert.Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Now()
	r := &alert.Record{Event: e, SessionID: alert.FormatSession(e.Subject.Session)}
	switch e.Kind {
	case event.KindCgroup:
		g.containers.cgroup(e.Subject.Container, e.Path, e.Removed, now)
	case event.KindSessionStart:
		g.sessions.started(&e, g.containers.keyOfCgroup)
	case event.KindRequest:
		g.requests.asked(&e)
	case event.KindResponse:
		g.requests.answered(&r.Event)
	case event.KindExec, event.KindExit, event.KindSessionEnd, event.KindConnect, event.KindListen,
		event.KindSocket, event.KindFlow, event.KindForeign, event.KindLost, event.KindBorrow, event.KindLate, event.KindDNS, event.KindStale, event.KindTamper, event.KindHello, event.KindKTLS, event.KindTunnel:
	}
	g.containers.name(r)
	r.ExecID, r.Terminal = g.sessions.execOf(e.Subject.Session, now)
	r.User = g.callers.userOf(g.sessions.byID[e.Subject.Session], r)
	if rule, ok := g.rules[r.Event.Rule]; ok && r.Event.Rule != 0 {
		r.Rule, r.Policy = rule.rule.Name, rule.rule.Policy
	}
	if e.Kind == event.KindSessionEnd {
		g.sessions.ended(e.Subject.Session, now)
	}
	g.sweep(now)
	return r
}

// Stats says how much a Registry holds.
type Stats struct {
	Containers int // that have a running task
	Sessions   int // that are open
	Gone       int // containers, cgroups, sessions and rules that are remembered though they went
}

// Stats counts what the registry holds.
func (g *Registry) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Stats{Sessions: len(g.sessions.byID)}
	for _, c := range g.containers.byCgroup {
		switch {
		case !c.gone.IsZero():
			s.Gone++
		case c.known:
			s.Containers++
		}
	}
	for _, one := range g.sessions.byID {
		if !one.gone.IsZero() {
			s.Gone++
			s.Sessions--
		}
	}
	for _, r := range g.rules {
		if !r.gone.IsZero() {
			s.Gone++
		}
	}
	return s
}

// sweep forgets what went long enough ago. It looks at everything, so it does so rarely, unless
// more went than may be kept.
func (g *Registry) sweep(now time.Time) {
	const sweeps = 4 // within Retain
	crowded := len(g.rules) > 2*g.cfg.MaxGone || g.containers.size() > 2*g.cfg.MaxGone || g.sessions.size() > 2*g.cfg.MaxGone
	if age := now.Sub(g.swept); age < g.cfg.Retain/sweeps && (!crowded || age < g.cfg.Retain/1000) {
		return
	}
	g.swept = now
	before := now.Add(-g.cfg.Retain)
	g.containers.sweep(before, g.cfg.MaxGone)
	g.sessions.sweep(before, g.cfg.MaxGone)
	forget(g.rules, func(r *ruleEntry) time.Time { return r.gone }, before, g.cfg.MaxGone)
}
