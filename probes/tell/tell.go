// Package tell reads what the kernel programs report: the two ring buffers, and the counters of
// errors and losses. It imports probes and its internals only.
package tell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sync/errgroup"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
	"github.com/sallyport/sallyport/probes/internal/decode"
)

// pollInterval is how often the counters are looked at: a loss is told at most this much later.
const pollInterval = time.Second

// flowPause is how long a record of the flows ring waits at most: the kernel wakes the reader only for
// a batch of them.
const flowPause = 50 * time.Millisecond

// Handler takes one event. It is called from one goroutine per ring and must not block for long: the
// ring fills meanwhile, and what does not fit is lost (counted, and told as KindLost).
type Handler func(event.Event)

// Reader reads the rings.
type Reader struct {
	kernel *probes.Kernel
	handle Handler
	seen   Counters
}

// NewReader returns a reader that gives every event to handle.
func NewReader(k *probes.Kernel, handle Handler) *Reader {
	return &Reader{kernel: k, handle: handle, seen: Counters{}}
}

// Run reads until ctx ends.
func (r *Reader) Run(ctx context.Context) error {
	seen, err := ReadCounters(r.kernel)
	if err != nil {
		return err
	}
	r.seen = seen // of former agents, which have told them
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range []string{"alerts", "flows"} {
		ring, err := ringbuf.NewReader(r.kernel.Maps().Map(name))
		if err != nil {
			return fmt.Errorf("opening ring %s: %w", name, err)
		}
		g.Go(func() error {
			<-ctx.Done()
			return ring.Close() // wakes the reader
		})
		if name == "flows" {
			ring.SetDeadline(time.Now().Add(flowPause))
		}
		g.Go(func() error { return r.read(ring, name) })
	}
	g.Go(func() error { return r.poll(ctx) })
	return g.Wait()
}

// read hands over one ring's records.
func (r *Reader) read(ring *ringbuf.Reader, name string) error {
	var rec ringbuf.Record
	var times clock
	names, id := r.kernel.Headers()
	records := decode.Decoder{Clock: times.wall, Headers: decode.Headers{ID: id, Names: names}}
	for {
		err := ring.ReadInto(&rec)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			ring.SetDeadline(time.Now().Add(flowPause)) // nothing waits
			continue
		}
		if err != nil {
			return fmt.Errorf("reading ring %s: %w", name, err)
		}
		e, err := records.Record(rec.RawSample)
		if err != nil {
			// A record of no program of ours: told as a loss, because something was not understood.
			r.handle(event.Event{Time: time.Now(), Kind: event.KindLost, Lost: 1, Site: name + "_malformed"})
			continue
		}
		r.handle(e)
	}
}

// poll tells losses and errors as they are counted.
func (r *Reader) poll(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := ReadCounters(r.kernel)
		if err != nil {
			return err
		}
		for site, n := range now {
			if lost := n - r.seen[site]; lost > 0 {
				r.handle(event.Event{Time: time.Now(), Kind: event.KindLost, Lost: lost, Site: site})
			}
		}
		r.seen = now
	}
}

// Counters are the kernel's error and loss counters by site, summed over CPUs since the pins were made.
type Counters map[string]uint64

// Lost reports whether a site counts lost reports, not errors.
func Lost(site string) bool {
	return site == siteName(bpfobj.ABISiteSITE_ALERT_RING) || site == siteName(bpfobj.ABISiteSITE_FLOW_RING)
}

func siteName(s bpfobj.ABISite) string {
	switch s {
	case bpfobj.ABISiteSITE_ALERT_RING:
		return "alert_ring"
	case bpfobj.ABISiteSITE_FLOW_RING:
		return "flow_ring"
	case bpfobj.ABISiteSITE_LABEL_STORAGE:
		return "label_storage"
	case bpfobj.ABISiteSITE_SOCK_STORAGE:
		return "socket_storage"
	case bpfobj.ABISiteSITE_FLOW_MAP:
		return "flow_map"
	case bpfobj.ABISiteSITE_CONTAINER_MAP:
		return "container_map"
	case bpfobj.ABISiteSITE_TABLES:
		return "tables"
	case bpfobj.ABISiteSITE_ARGS:
		return "arguments"
	case bpfobj.ABISiteSITE_PATH:
		return "path"
	case bpfobj.ABISiteSITE_PENDING:
		return "pending"
	case bpfobj.ABISiteSITE_NAMES:
		return "names"
	case bpfobj.ABISiteSITE_DNS_BUSY:
		return "dns_busy"
	case bpfobj.ABISiteSITE_TAP_BUSY:
		return "tap_busy"
	case bpfobj.ABISiteSITE_READ_BUSY:
		return "read_busy"
	case bpfobj.ABISiteSITE_COUNT:
	}
	return fmt.Sprintf("site_%d", s)
}

// ReadCounters reads the counters.
func ReadCounters(k *probes.Kernel) (Counters, error) {
	m := k.Maps().Map("errors")
	out := Counters{}
	for site := range bpfobj.ABISiteSITE_COUNT {
		var perCPU []uint64
		if err := m.Lookup(uint32(site), &perCPU); err != nil {
			return nil, fmt.Errorf("reading error counters: %w", err)
		}
		for _, n := range perCPU {
			out[siteName(site)] += n
		}
	}
	return out, nil
}

// Misses are the runs that the kernel skipped because a program was already running on that CPU, by
// program: what these hooks did not see.
func Misses() (map[string]uint64, error) {
	out := map[string]uint64{}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listing programs: %w", err)
		}
		id = next
		if err := addMisses(id, out); err != nil {
			return nil, err
		}
	}
}

// addMisses adds one program's misses if it is one of ours.
func addMisses(id ebpf.ProgramID, out map[string]uint64) error {
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it went meanwhile
	}
	if err != nil {
		return fmt.Errorf("opening program %d: %w", id, err)
	}
	defer func() { _ = p.Close() }() // read only: nothing is lost
	info, err := p.Info()
	if err != nil {
		return fmt.Errorf("reading program %d: %w", id, err)
	}
	word, _, _ := strings.Cut(info.Name, "_")
	if !slices.Contains([]string{"label", "judge", "read", "gate"}, word) {
		return nil
	}
	stats, err := p.Stats()
	if err != nil {
		return fmt.Errorf("reading program %d: %w", id, err)
	}
	if stats.RecursionMisses > 0 {
		out[info.Name] += stats.RecursionMisses
	}
	return nil
}
