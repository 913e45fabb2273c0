package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// taintTick is how often this node is looked at for its startup taint, in what was heard of it: that asks nobody.
const taintTick = 500 * time.Millisecond

// Enforcing says that policies are in force on this node, so that it needs no startup taint any more. It may be called
// again and again.
func (s *Source) Enforcing() { s.enforcing() }

// untaint removes the startup taint from this node once policies are in force, whenever it is there: a node that has
// started again gets it again. What cannot be removed stays, and no pods come (fails closed); it is tried again.
func (s *Source) untaint(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-s.enforced:
	}
	ticker := time.NewTicker(taintTick)
	defer ticker.Stop()
	for told := ""; ; {
		if s.tainted() {
			err := s.removeTaint(ctx)
			switch log := s.log.WithField("taint", s.cfg.StartupTaint); {
			case err == nil:
				log.Info("policies are in force; the node's startup taint is removed")
				told = ""
			case apierrors.IsConflict(err) || ctx.Err() != nil || err.Error() == told: // somebody else was quicker, or it is known
			default:
				log.WithError(err).Error("the node's startup taint stays, and keeps pods away")
				told = err.Error()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// tainted says whether this node has the startup taint, as far as was heard.
func (s *Source) tainted() bool {
	nodes, _ := s.nodes.list()
	return slices.ContainsFunc(nodes, func(n *Node) bool { return n.Name == s.cfg.NodeName && n.Tainted })
}

// removeTaint removes the startup taint, whatever its effects, from the node as it is now. Taints are replaced as a
// whole: where the node has changed meanwhile, this is a conflict and nothing happens.
func (s *Source) removeTaint(ctx context.Context) error {
	var node corev1.Node
	if err := s.client.core.Get().Resource("nodes").Name(s.cfg.NodeName).Do(ctx).Into(&node); err != nil {
		return fmt.Errorf("reading the taints of node %s: %w", s.cfg.NodeName, err)
	}
	left := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return t.Key == s.cfg.StartupTaint })
	if len(left) == len(node.Spec.Taints) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion, "uid": node.UID}, "spec": map[string]any{"taints": left},
	})
	if err != nil {
		return fmt.Errorf("writing the taints of node %s: %w", s.cfg.NodeName, err)
	}
	if err := s.client.core.Patch(types.MergePatchType).Resource("nodes").Name(s.cfg.NodeName).Body(patch).Do(ctx).Error(); err != nil {
		return fmt.Errorf("removing the taint %s from node %s: %w", s.cfg.StartupTaint, s.cfg.NodeName, err)
	}
	return nil
}

// onceClosed returns a channel, and what closes it, which may be called again.
func onceClosed() (<-chan struct{}, func()) {
	c := make(chan struct{})
	return c, sync.OnceFunc(func() { close(c) })
}
