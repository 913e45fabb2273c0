package correlate

import (
	"maps"
	"slices"
	"time"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/identity"
)

// session is one exec as the kernel knows it.
type session struct {
	id       uint64
	pid      uint32 // of its first process
	cgroup   uint64
	start    time.Time
	inferred bool   // start is when it was found, not when it began
	exec     string // the runtime's name; empty while not known
	terminal bool   // the runtime gave it one
	args     []string
	user     string // who asked the cluster's API for it; empty while not known
	gone     time.Time
}

// waitingExec is a name whose session has not been heard of.
type waitingExec struct {
	exec  identity.Exec
	since time.Time
}

// sessions joins kernel sessions and the runtime's execs by the PID and the time of their first
// process, whichever comes first.
type sessions struct {
	skew    time.Duration
	byID    map[uint64]*session
	byPID   map[uint32]*session // the newest of a PID
	waiting map[uint32]waitingExec
}

func newSessions(skew time.Duration) sessions {
	return sessions{
		skew:    skew,
		byID:    map[uint64]*session{},
		byPID:   map[uint32]*session{},
		waiting: map[uint32]waitingExec{},
	}
}

// resolver names the container of a cgroup, if it is known.
type resolver func(cgroup uint64) (key, bool)

// started takes in the first event of a session.
func (s *sessions) started(e *event.Event, containerOf resolver) {
	subject := &e.Subject
	if subject.Session == 0 {
		return
	}
	one := &session{
		id: subject.Session, pid: subject.PID, cgroup: subject.Container, start: e.Time, inferred: subject.Inferred,
		args: e.Args,
	}
	s.byID[one.id] = one
	s.byPID[one.pid] = one
	if name, ok := s.waiting[one.pid]; ok && s.fits(one, &name.exec, containerOf) {
		one.exec, one.terminal = name.exec.ID, name.exec.Terminal
		delete(s.waiting, one.pid)
	}
}

// named takes in the runtime's name of a session.
func (s *sessions) named(exec identity.Exec, containerOf resolver, now time.Time) {
	if exec.PID == 0 {
		return // added but not started: the PID comes with a later change
	}
	if one := s.byPID[exec.PID]; one != nil && s.fits(one, &exec, containerOf) {
		if one.exec == "" {
			one.exec, one.terminal = exec.ID, exec.Terminal
		}
		return
	}
	s.waiting[exec.PID] = waitingExec{exec: exec, since: now}
}

// fits tells whether a name can be that of a session. PIDs come again, so the container must be
// the same where it is known, and the start times near each other where both are.
func (s *sessions) fits(one *session, exec *identity.Exec, containerOf resolver) bool {
	if k, ok := containerOf(one.cgroup); ok && k != (key{exec.Namespace, exec.ContainerID}) {
		return false
	}
	if one.exec != "" && one.exec != exec.ID {
		return false
	}
	return one.inferred || exec.StartedAt.IsZero() || one.start.Sub(exec.StartedAt).Abs() <= s.skew
}

// execOf is the name of a session, or "", and whether it has a terminal. A session that ended is kept as long as it is
// asked for: what it started may run on for long, and is the more worth a name.
func (s *sessions) execOf(id uint64, now time.Time) (name string, terminal bool) {
	one := s.byID[id]
	if one == nil {
		return "", false
	}
	if !one.gone.IsZero() {
		one.gone = now
	}
	return one.exec, one.terminal
}

// ended notes that the first process of a session ended.
func (s *sessions) ended(id uint64, now time.Time) {
	if one := s.byID[id]; one != nil {
		one.gone = now
	}
}

func (s *sessions) size() int { return len(s.byID) + len(s.waiting) }

// sweep forgets what went. Sessions whose end was never told (the event was lost) are bounded too:
// beyond most, the oldest count as ended.
func (s *sessions) sweep(before time.Time, most int) {
	open := slices.DeleteFunc(slices.Collect(maps.Values(s.byID)), func(one *session) bool { return !one.gone.IsZero() })
	if len(open) > most {
		slices.SortFunc(open, func(a, b *session) int { return a.start.Compare(b.start) })
		for _, one := range open[:len(open)-most] {
			one.gone = before.Add(1)
		}
	}
	forget(s.byID, func(one *session) time.Time { return one.gone }, before, most)
	maps.DeleteFunc(s.byPID, func(_ uint32, one *session) bool { return s.byID[one.id] != one })
	forget(s.waiting, func(w waitingExec) time.Time { return w.since }, before, most)
}

// forget removes what went before a time, and of the rest that went keeps the newest, at most most.
// gone tells when an entry went; the zero time is one that did not.
func forget[K comparable, V any](entries map[K]V, gone func(V) time.Time, before time.Time, most int) {
	type aged struct {
		key  K
		gone time.Time
	}
	var left []aged
	for k, v := range entries {
		switch at := gone(v); {
		case at.IsZero():
		case at.Before(before):
			delete(entries, k)
		default:
			left = append(left, aged{k, at})
		}
	}
	if len(left) <= most {
		return
	}
	slices.SortFunc(left, func(a, b aged) int { return a.gone.Compare(b.gone) })
	for _, old := range left[:len(left)-most] {
		delete(entries, old.key)
	}
}
