package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/read"
)

// An exec is told before its program has mapped any library, so a process is looked at then, and once more after
// tapAgain. What is mapped later still is found every tapEvery; until then it is opaque (fails closed).
const (
	tapAgain = 250 * time.Millisecond
	tapEvery = 10 * time.Second
)

// tapsAtOnce bounds how many processes are looked at together: files of a hostile file system can take their time.
const tapsAtOnce = 8

// tapped is a container whose TLS libraries are to be tapped.
type tapped struct {
	cgroup string // path below the root of the hierarchy
	init   uint32 // its first process; 0: ended
}

// process is one of a container's.
type process struct {
	container uint64
	pid       uint32
}

// taps keeps the TLS libraries tapped of the containers that rules ask the requests of, and of no others.
type taps struct {
	a      *agent
	log    logrus.FieldLogger
	execs  chan process
	wanted chan map[uint64]tapped // the newest; holds one
	places chan struct{}

	mu   sync.Mutex
	open *read.Taps // nil: nobody needs any
	now  map[uint64]tapped
}

func newTaps(a *agent) *taps {
	return &taps{
		a: a, log: a.log.WithField("component", "taps"), execs: make(chan process, 1024),
		wanted: make(chan map[uint64]tapped, 1), places: make(chan struct{}, tapsAtOnce),
	}
}

// want says which containers need taps from now on. It never blocks; only the engine calls it.
func (p *taps) want(containers map[uint64]tapped) {
	select {
	case <-p.wanted: // older, and not taken yet
	default:
	}
	p.wanted <- containers
}

// executed takes the news of an exec. It never blocks: what does not fit is found with the next look.
func (p *taps) executed(e *event.Event) {
	p.push(process{e.Subject.Container, e.Subject.PID})
}

func (p *taps) push(proc process) {
	if !p.needs(proc.container) {
		return
	}
	select {
	case p.execs <- proc:
	default:
	}
}

func (p *taps) needs(container uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.now[container]
	return ok
}

// files lists what speaks TLS in a container, for status. The lock is not held meanwhile: taps that let go of containers ask
// needs() under theirs.
func (p *taps) files(container uint64) []read.File {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	if open == nil {
		return nil
	}
	return open.Files(container)
}

// run follows what is wanted and what is executed until ctx ends. What is in place then stays.
func (p *taps) run(ctx context.Context) error {
	look := time.NewTicker(tapEvery)
	defer look.Stop()
	defer func() {
		if p.open != nil {
			_ = p.open.Close() // handles only
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-p.wanted:
			p.change(now)
		case proc := <-p.execs:
			p.glance(proc)
			time.AfterFunc(tapAgain, func() { p.glance(proc) })
		case <-look.C:
			p.look()
		}
	}
}

// change brings the taps in line with what is wanted.
func (p *taps) change(now map[uint64]tapped) {
	p.mu.Lock()
	before := p.now
	p.now = now
	p.mu.Unlock()
	if len(now) == 0 {
		if before == nil || len(before) > 0 {
			p.end()
		}
		return
	}
	if p.open == nil {
		open, err := read.OpenTaps(p.a.kernel, procDir)
		if err != nil {
			p.failed(err)
			return
		}
		p.mu.Lock()
		p.open = open
		p.mu.Unlock()
	}
	p.look()
}

// failed tells that no library can be read; the next change tries again. Fails closed: TLS is opaque.
func (p *taps) failed(err error) {
	p.log.WithError(err).Error("TLS libraries cannot be tapped: where rules ask for requests, TLS is denied")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = nil
}

// end takes all taps away, those of a former agent too.
func (p *taps) end() {
	p.mu.Lock()
	open := p.open
	p.open = nil
	p.mu.Unlock()
	if open != nil {
		_ = open.Close() // handles only
	}
	if err := read.Remove(p.a.kernel); err != nil {
		p.log.WithError(err).Warn("taps that nobody needs any more are still in place")
	}
}

// look covers all processes of all containers, and ends the taps of the others.
func (p *taps) look() {
	if p.open == nil {
		return
	}
	var done sync.WaitGroup
	late := time.NewTimer(tapEvery)
	defer late.Stop()
	for id, c := range p.now {
		procs := []process{}
		if c.init != 0 {
			procs = append(procs, process{id, c.init})
		}
		for _, pid := range pidsBelow(filepath.Join(p.a.cgroups.Dir(), c.cgroup)) {
			procs = append(procs, process{id, pid})
		}
		for i, proc := range procs {
			select {
			case p.places <- struct{}{}:
			case <-late.C:
				return // the rest is for the next look
			}
			done.Go(func() { p.cover(p.open, proc, i == 0) })
		}
	}
	all := make(chan struct{})
	go func() {
		done.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-late.C:
		return
	}
	if err := errors.Join(p.open.Retain(p.needs), p.open.Sweep()); err != nil {
		p.log.WithError(err).Warn("taps that nobody needs any more are still in place")
	}
}

// glance covers what a process has mapped now, unless too many are being looked at: then the next look does.
func (p *taps) glance(proc process) {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	if open == nil || !p.needs(proc.container) {
		return
	}
	select {
	case p.places <- struct{}{}:
		go p.cover(open, proc, false)
	default:
	}
}

// cover taps what a process has mapped, and with whole also what lies where its container looks for libraries and for
// programs. It gives its place back.
func (p *taps) cover(open *read.Taps, proc process, whole bool) {
	defer func() { <-p.places }()
	errs := []error{open.Cover(proc.container, proc.pid)}
	if whole {
		errs = append(errs, open.CoverLibraries(proc.container, proc.pid), open.CoverPrograms(proc.container, proc.pid))
	}
	if err := errors.Join(errs...); err != nil {
		p.log.WithError(err).WithFields(logrus.Fields{"container": proc.container, "pid": proc.pid}).
			Warn("code of a process could not be looked at: its TLS is opaque")
	}
}

// pidsBelow lists the processes of a cgroup and of those below it. One that is gone has none.
func pidsBelow(dir string) []uint32 {
	var out []uint32
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what cannot be read is found by its exec
		if err != nil || !d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil //nolint:nilerr // it has gone meanwhile
		}
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.ParseUint(strings.TrimSpace(line), 10, 32); err == nil && pid != 0 {
				out = append(out, uint32(pid))
			}
		}
		return nil
	})
	return out
}
