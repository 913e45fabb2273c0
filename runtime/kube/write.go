package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// How statuses are written without a storm: only what differs from what is there, each policy at most once in
// writePause, and by every node at a moment by chance in a time that grows with the cluster.
const (
	writeTick    = 500 * time.Millisecond
	writePause   = 5 * time.Second
	spreadOfNode = 5 * time.Millisecond // so 200 writes a second at most from all nodes together
	mostSpread   = 30 * time.Second
	rankPause    = 2 * time.Second // between the attempts of one node and the next at what all could write
	mostRank     = 15
)

// writer writes statuses: of every policy what this node says, by server-side apply, so that no node touches another's
// entry; and the summary, which the first node in the order of their names writes, or after a while the next.
type writer struct {
	source *Source

	mu   sync.Mutex
	says map[string]Say // by Policy.Key

	due map[string]time.Time // of what differs; belongs to run
	did map[string]time.Time // last write
}

func newWriter(s *Source) *writer {
	return &writer{source: s, says: map[string]Say{}, due: map[string]time.Time{}, did: map[string]time.Time{}}
}

// SetStatus says what this node says of the policies, by Policy.Key. It replaces what was said before.
func (s *Source) SetStatus(says map[string]Say) {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	s.writer.says = says
}

// run writes until ctx ends.
func (w *writer) run(ctx context.Context) {
	ticker := time.NewTicker(writeTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !w.source.Health().Away {
			w.pass(ctx, time.Now())
		}
	}
}

// pass writes what is due.
func (w *writer) pass(ctx context.Context, now time.Time) {
	w.mu.Lock()
	says := w.says
	w.mu.Unlock()
	list, _ := w.source.nodes.list()
	nodes := make(map[string]bool, len(list))
	rank := 0
	for _, n := range list {
		nodes[n.Name] = true
		if n.Name < w.source.cfg.NodeName {
			rank++
		}
	}
	spread := min(time.Duration(len(nodes))*spreadOfNode, mostSpread)
	there := map[string]bool{}
	for _, r := range w.source.policies {
		if !r.own {
			continue
		}
		policies, _ := r.table.list()
		for _, p := range policies {
			say, said := says[p.Key()]
			if !said || say.Generation != p.Generation {
				continue // the engine has not seen this version yet
			}
			there[p.Key()] = true
			j := job{r, p, now}
			w.own(ctx, j, say, spread)
			w.gone(ctx, j, nodes, rank)
			// The nodes first: a summary that is written before them is written twice.
			w.summarise(ctx, j, summary(p, say, nodes, now), spread+2*writeTick+turn(rank))
		}
	}
	w.forget(there)
}

// forget drops what was noted of policies that are gone.
func (w *writer) forget(there map[string]bool) {
	for key := range w.did {
		if _, policy, _ := strings.Cut(key, " "); !there[policy] {
			delete(w.did, key)
			delete(w.due, key)
		}
	}
}

// slot names one thing to write of a policy.
func slot(p *Policy, what string) string { return what + " " + p.Key() }

// ripe says whether what differs may be written now: wait after it was first seen to differ, and not too soon after the
// last time.
func (w *writer) ripe(slot string, differs bool, now time.Time, wait func() time.Duration) bool {
	if !differs {
		delete(w.due, slot)
		return false
	}
	due, known := w.due[slot]
	if !known {
		due = now.Add(wait())
		if last, before := w.did[slot]; before && due.Before(last.Add(writePause)) {
			due = last.Add(writePause)
		}
		w.due[slot] = due
	}
	if now.Before(due) {
		return false
	}
	delete(w.due, slot)
	w.did[slot] = now
	return true
}

// job is a policy whose status is looked at.
type job struct {
	resource *policyResource
	policy   *Policy
	now      time.Time
}

// own writes what this node says.
func (w *writer) own(ctx context.Context, j job, say Say, spread time.Duration) {
	p, now := j.policy, j.now
	node := w.source.cfg.NodeName
	before, there := nodeOf(&p.Status, node)
	entry, wanted := say.entry(node, &p.Status, now)
	differs := there != wanted || wanted && !sameNode(before, entry)
	if !w.ripe(slot(p, "own"), differs, now, func() time.Duration { return rand.N(spread + 1) }) { //nolint:gosec // spreads load, hides nothing
		return
	}
	status := map[string]any{}
	if wanted {
		status["nodes"] = []NodeStatus{entry}
	}
	w.apply(ctx, j, managerOf(node), status)
}

// gone removes what nodes have said that are not there any more, in their names.
func (w *writer) gone(ctx context.Context, j job, nodes map[string]bool, rank int) {
	p := j.policy
	at := slices.IndexFunc(p.Status.Nodes, func(n NodeStatus) bool { return !nodes[n.Name] })
	if w.ripe(slot(p, "gone"), at >= 0 && len(nodes) > 0, j.now, func() time.Duration { return turn(rank) }) {
		w.apply(ctx, j, managerOf(p.Status.Nodes[at].Name), map[string]any{})
	}
}

// summarise writes the summary.
func (w *writer) summarise(ctx context.Context, j job, sum PolicyStatus, wait time.Duration) {
	p := j.policy
	if !w.ripe(slot(p, "summary"), !sameSummary(&p.Status, &sum), j.now, func() time.Duration { return wait }) {
		return
	}
	w.apply(ctx, j, "sallyport-summary", map[string]any{
		"observedGeneration": sum.ObservedGeneration, "workloads": sum.Workloads, "enforcing": sum.Enforcing, "conditions": sum.Conditions,
	})
}

// turn is how long the node of a rank leaves something to those before it.
func turn(rank int) time.Duration {
	wait := time.Duration(min(rank, mostRank)) * rankPause
	if rank > mostRank {
		wait += rand.N(mostSpread) //nolint:gosec // spreads load, hides nothing
	}
	return wait
}

// managerOf is the name under which a node's entry is owned, which has at most 128 bytes.
func managerOf(node string) string {
	const prefix, longest = "sallyport-node-", 128
	if len(prefix)+len(node) <= longest {
		return prefix + node
	}
	sum := sha256.Sum256([]byte(node))
	return prefix + hex.EncodeToString(sum[:])
}

// apply makes a status what one manager says of it. What cannot be written is written later: it changes nothing that is
// enforced.
func (w *writer) apply(ctx context.Context, j job, manager string, status map[string]any) {
	r, p := j.resource, j.policy
	metadata := map[string]any{"name": p.Name, "uid": p.UID} // not that of one that was made anew
	var of dynamic.ResourceInterface = w.source.client.dynamic.Resource(r.GroupVersionResource)
	if p.Namespace != "" {
		metadata["namespace"] = p.Namespace
		of = w.source.client.dynamic.Resource(r.GroupVersionResource).Namespace(p.Namespace)
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": r.GroupVersion().String(), "kind": p.Kind, "metadata": metadata, "status": status,
	})
	if err == nil {
		force := true
		_, err = of.Patch(ctx, p.Name, types.ApplyPatchType, text, metav1.PatchOptions{FieldManager: manager, Force: &force}, "status")
	}
	if unlessMissing(err) != nil && ctx.Err() == nil {
		w.source.log.WithError(fmt.Errorf("writing the status of %s: %w", p.Key(), err)).Debug("a status could not be written")
	}
}
