package daemon

import (
	"context"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport/sallyport/agent/internal/api"
	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/tell"
	"github.com/sallyport/sallyport/runtime/identity"
)

// Status implements api.StatusSource.
func (a *agent) Status(context.Context) (*apiv1.StatusResponse, error) {
	if a.engine == nil {
		return nil, fmt.Errorf("the agent is starting")
	}
	now := a.engine.snapshot()
	counters, err := tell.ReadCounters(a.kernel)
	if err != nil {
		return nil, err
	}
	misses, err := tell.Misses()
	if err != nil {
		return nil, err
	}
	r := &apiv1.StatusResponse{
		Agent: api.Build(), Kernel: kernelRelease(), Uptime: durationpb.New(time.Since(a.started)),
		Adopted: !a.kernel.Fresh(), Revision: now.revision,
		Hooks: a.hookStatus(misses), Policies: policyStatus(&now), Workloads: a.workloadStatus(&now),
		Runtimes: a.runtimeStatus(),
	}
	for _, site := range slices.Sorted(maps.Keys(counters)) {
		c := &apiv1.Counter{Site: site, Count: counters[site]}
		if tell.Lost(site) {
			r.Losses = append(r.Losses, c)
		} else {
			r.Errors = append(r.Errors, c)
		}
	}
	for _, s := range a.fanout.Stats() {
		r.Losses = append(r.Losses, &apiv1.Counter{Site: "sink/" + s.Sink, Count: s.Lost})
	}
	return r, nil
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "" // cannot fail with a valid buffer
	}
	return unix.ByteSliceToString(u.Release[:])
}

// hookStatus says what judges where.
func (a *agent) hookStatus(misses map[string]uint64) []*apiv1.Hook {
	hooks := []probes.Hook{a.label.Hook()}
	hooks = append(hooks, a.judge.Hooks()...)
	if a.gate != nil {
		hooks = append(hooks, a.gate.Hooks()...)
	}
	out := make([]*apiv1.Hook, 0, len(hooks)+1)
	for _, h := range hooks {
		stops := slices.Clone(h.NotStopped)
		for _, p := range h.Programs {
			if n := misses[p]; n > 0 {
				stops = append(stops, fmt.Sprintf("%d calls that %s has missed so far", n, p))
			}
		}
		out = append(out, &apiv1.Hook{
			Name: h.Name, Step: judge.StepName(h.Step), Program: strings.Join(h.Programs, ","),
			DoesNotStop: strings.Join(stops, "; "), State: apiv1.HookState_HOOK_STATE_ATTACHED, Error: strings.Join(h.Refused, "\n"),
		})
	}
	if a.gate == nil {
		out = append(out, &apiv1.Hook{Name: "packet", State: apiv1.HookState_HOOK_STATE_OFF, DoesNotStop: "raw and packet sockets, and sockets older than the agent"})
	}
	return out
}

// runtimeStatus says who calls before a container starts, and who says what there is beyond containers.
func (a *agent) runtimeStatus() []*apiv1.Runtime {
	state, detail := a.engine.cluster.status()
	return append(a.startStatus(), &apiv1.Runtime{Name: "kubernetes", State: state, Detail: detail})
}

func (a *agent) startStatus() []*apiv1.Runtime {
	hook := &apiv1.Runtime{
		Name: "hook", State: "waiting", Detail: "for runtimes that call sallyport hook",
		Admitted: a.hookAdmitted.Load(), Refused: a.hookRefused.Load(),
	}
	if a.nri == nil {
		return []*apiv1.Runtime{{Name: "nri", State: "off"}, hook}
	}
	now := a.nri.Status()
	choice := "admits"
	if now.Refuse {
		choice = "refuses"
	}
	r := &apiv1.Runtime{Name: "nri", State: "away", Admitted: now.Admitted, Refused: now.Refused}
	switch {
	case now.Connected:
		r.State, r.Detail = "connected", fmt.Sprintf("%s waits up to %s, then the agent %s", now.Runtime, now.Timeout, choice)
	case now.Err != nil:
		r.Detail = now.Err.Error()
	}
	return []*apiv1.Runtime{r, hook}
}

// policyStatus says of every file and policy what it covers or what is wrong with it.
func policyStatus(now *snapshot) []*apiv1.Policy {
	covers := coverage(now)
	inForce := map[string]*policy.Policy{}
	for _, p := range now.accepted {
		inForce[p.Name()] = p
	}
	var out []*apiv1.Policy
	for _, file := range slices.Sorted(maps.Keys(now.files)) {
		f := now.files[file]
		if f.err != nil {
			out = append(out, &apiv1.Policy{File: file, Error: f.err.Error()})
		}
		for _, p := range f.policies {
			s := &apiv1.Policy{Name: p.Name(), File: file, Mode: string(p.Spec.Mode), Workloads: covers[p.Name()]}
			if now.compileErr != nil && !reflect.DeepEqual(p, inForce[p.Name()]) {
				s.Error = "not in force: " + refusal(now.compileErr, p.Name())
			}
			out = append(out, s)
		}
	}
	return out
}

// name is how people call the workload.
func (g *governed) name() string {
	c := &g.container
	switch {
	case !g.named || c.Type == identity.TypeUnit:
		return c.CgroupPath
	case c.Pod.Name != "":
		return c.Pod.Namespace + "/" + c.Pod.Name
	}
	return c.Namespace + "/" + c.ID
}

// uncovered says why something does not cover it. A container that the kernel could not be told of, because its map is full, has
// processes without labels (open).
func (g *governed) uncovered() string {
	if g.named && g.applied && !g.confirmed {
		return "not labelled: the kernel could not be told of it; the log says why"
	}
	return g.note
}

func (a *agent) workloadStatus(now *snapshot) []*apiv1.Workload {
	out := make([]*apiv1.Workload, 0, len(now.containers))
	for i := range now.containers {
		g := &now.containers[i]
		w := &apiv1.Workload{
			Name: g.name(), Container: g.container.Name, ContainerId: g.container.ID, Cgroup: g.container.CgroupPath,
			Ruleset: g.ruleset, Governed: g.ruleset != 0, Provisional: !g.named, Note: g.uncovered(),
		}
		if g.network != nil && g.network.held && g.network.veth.Ifindex != 0 {
			if i, err := net.InterfaceByIndex(int(g.network.veth.Ifindex)); err == nil {
				w.GateInterface = i.Name
			}
		}
		for _, f := range a.taps.files(g.container.CgroupID) {
			w.Tls = append(w.Tls, &apiv1.TLSFile{Path: []byte(f.Path), Library: string(f.Library), Why: f.Why})
		}
		out = append(out, w)
	}
	return out
}
