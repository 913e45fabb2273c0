package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/agent/internal/api"
	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/match"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/runtime/procfs"
)

// Explain implements api.Explainer: the reference is asked with what the tables in force were made of, and with what the
// kernel knows of the process. It decides nothing.
func (a *agent) Explain(_ context.Context, pid uint32, q policy.Question) (*apiv1.ExplainResponse, error) {
	if a.engine == nil {
		return nil, errors.New("the agent is starting")
	}
	l, ids, err := a.labelled(pid)
	if err != nil {
		return nil, err
	}
	now := a.engine.snapshot()
	if now.input == nil {
		return nil, errors.New("the policies in force are those of a former agent, until this one knows what runs")
	}
	i := slices.IndexFunc(now.input.Workloads, func(w policy.Workload) bool { return w.Key == l.Container })
	if i < 0 {
		return nil, fmt.Errorf("process %d is in a container that no runtime has named yet: it may %s", pid, whileUnknown(a.cfg.Enforcement.UnknownWorkload))
	}
	p := processOf(l, ids)
	p.Workload = now.input.Workloads[i]
	told, err := a.namesOf(l.Container, q.Call)
	if err != nil {
		return nil, err
	}
	q.Call.Names = append(slices.Clone(q.Call.Names), told...)
	in := *now.input
	in.World = now.world.Around(q.Call.Peer)
	out := &apiv1.ExplainResponse{Process: liveProcess(pid, l, &p), Revision: now.revision}
	for _, name := range told {
		out.Names = append(out.Names, []byte(name))
	}
	for i := range now.containers {
		if g := &now.containers[i]; g.container.CgroupID == l.Container {
			out.Process.Workload, out.Process.ContainerId = g.name(), g.container.ID
		}
	}
	api.SetExplanation(out, match.Ask(in, p, q))
	return out, nil
}

// whileUnknown says what a container may do that no policy can know yet.
func whileUnknown(choice config.UnknownWorkload) string {
	if choice == config.UnknownDeny {
		return "do nothing until then (enforcement.unknownWorkload: deny)"
	}
	return "do anything until then (enforcement.unknownWorkload: allow)"
}

// namesOf are the names by which DNS has told a container the peer of a call.
func (a *agent) namesOf(container uint64, c policy.Call) ([]string, error) {
	if c.Direction != policy.Egress || c.Listen || !c.Peer.IsValid() {
		return nil, nil
	}
	return a.names.Told(container, c.Canonical().Peer)
}

// looks is how often a process is looked at that executes another program meanwhile.
const looks = 5

// labelled reads the label of a process and the ids that it acts under, both of the same program.
func (a *agent) labelled(pid uint32) (*label.Label, procfs.IDs, error) {
	for range looks {
		before, err := a.readLabel(pid)
		if err != nil {
			return nil, procfs.IDs{}, err
		}
		ids, err := a.proc.IDs(pid)
		if errors.Is(err, procfs.ErrGone) {
			return nil, procfs.IDs{}, fmt.Errorf("process %d: %w any more", pid, api.ErrNoProcess)
		}
		if err != nil {
			return nil, procfs.IDs{}, err
		}
		after, err := a.readLabel(pid)
		if err != nil {
			return nil, procfs.IDs{}, err
		}
		if before.Exec == after.Exec && before.Container == after.Container {
			return after, ids, nil
		}
	}
	return nil, procfs.IDs{}, fmt.Errorf("process %d executes one program after another: ask again", pid)
}

// readLabel reads the label of a process of which something is judged.
func (a *agent) readLabel(pid uint32) (*label.Label, error) {
	l, err := a.label.Read(pid)
	switch {
	case errors.Is(err, label.ErrNoProcess):
		return nil, fmt.Errorf("process %d: %w", pid, api.ErrNoProcess)
	case err != nil:
		return nil, err
	case l.Joining:
		return nil, fmt.Errorf("process %d has just entered its container and has not executed its program yet: nothing of it is judged", pid)
	}
	return l, nil
}

// processOf is a process as policies see it, but for its workload.
func processOf(l *label.Label, ids procfs.IDs) policy.Process {
	origins := policy.Origins()
	p := policy.Process{Exe: l.Exe, Script: l.Script, Truncated: l.Truncated, Scriptless: l.Scriptless, Origin: policy.OriginUnknown}
	if int(l.Origin) < len(origins) {
		p.Origin = origins[l.Origin]
	}
	id := func(inside func(uint32) (uint32, bool), id uint32) uint32 {
		if n, ok := inside(id); ok {
			return n
		}
		return policy.NoID // could be any: closed
	}
	for i := range p.User {
		p.User[i], p.Group[i] = id(l.User, ids.User[i]), id(l.Group, ids.Group[i])
	}
	for i, g := range ids.Groups {
		if i == label.MostGroups {
			p.Groups = append(p.Groups, policy.NoID) // the kernel looks at no more, and takes them for any: closed
			break
		}
		p.Groups = append(p.Groups, id(l.Group, g))
	}
	return p
}

// liveProcess is a process for people.
func liveProcess(pid uint32, l *label.Label, p *policy.Process) *apiv1.LiveProcess {
	w := &p.Workload
	out := &apiv1.LiveProcess{
		Pid: pid, Container: w.Container, ContainerType: w.ContainerType, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount,
		Host: w.Host != nil, Origin: string(p.Origin), Session: l.Session, Exe: []byte(l.Exe), Script: []byte(l.Script),
		Truncated: l.Truncated, Scriptless: l.Scriptless, Inferred: l.Inferred,
		User: p.User[:], Group: p.Group[:], Groups: p.Groups,
	}
	if w.Host != nil {
		out.Unit, out.Cgroup = w.Host.Unit, w.Host.Cgroup
	}
	for _, key := range slices.Sorted(maps.Keys(w.Labels)) {
		out.Labels = append(out.Labels, key+"="+w.Labels[key])
	}
	return out
}
