package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// Policy is an object that is a policy: of Sallyport's own kinds, or of those that it also reads.
type Policy struct {
	Resource   string // processpolicies, networkpolicies, …
	Kind       string
	Namespace  string
	Name       string
	UID        string
	Generation int64
	Document   []byte       // JSON of what somebody wrote: without status, labels, annotations and what the server fills in
	Status     PolicyStatus // of Sallyport's own kinds
}

// Key tells the policies of a cluster apart: resource/namespace/name, or resource/name.
func (p *Policy) Key() string { return path.Join(p.Resource, p.Namespace, p.Name) }

// policyResource is a resource whose objects are policies, and what is known of them.
type policyResource struct {
	schema.GroupVersionResource
	own   bool // Sallyport's: it has a status
	table *table[*Policy]
}

// policyResources lists what Config asks for.
func policyResources(cfg Config, changed func()) (out []*policyResource) {
	add := func(own bool, group, version string, names ...string) {
		for _, name := range names {
			r := &policyResource{GroupVersionResource: schema.GroupVersionResource{Group: group, Version: version, Resource: name}, own: own}
			r.table = newTable(func(obj any) (*Policy, error) { return trimPolicy(r, obj) }, changed)
			out = append(out, r)
		}
	}
	add(true, "sallyport.dev", "v1alpha1", "processpolicies", "clusterprocesspolicies", "hostprocesspolicies")
	if cfg.NetworkPolicies {
		add(false, "networking.k8s.io", "v1", "networkpolicies")
	}
	if cfg.CiliumPolicies {
		add(false, "cilium.io", "v2", "ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies")
	}
	return out
}

// PolicyDocument is what somebody wrote of a policy that is an object, both as JSON: without status, labels, annotations and
// what the server fills in.
func PolicyDocument(object []byte) ([]byte, error) {
	o := &unstructured.Unstructured{}
	if err := json.Unmarshal(object, &o.Object); err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	return documentOf(o)
}

// documentOf is the same of an object that was read.
func documentOf(o *unstructured.Unstructured) ([]byte, error) {
	metadata := map[string]any{"name": o.GetName()}
	if o.GetNamespace() != "" {
		metadata["namespace"] = o.GetNamespace()
	}
	document := map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": metadata}
	for _, field := range []string{"spec", "specs"} {
		if v, ok := o.Object[field]; ok {
			document[field] = v
		}
	}
	text, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("writing a policy down: %w", err)
	}
	return text, nil
}

// trimPolicy keeps of a policy what its author wrote, and what was said of it.
func trimPolicy(r *policyResource, obj any) (*Policy, error) {
	o, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a policy is %T", obj)
	}
	text, err := documentOf(o)
	if err != nil {
		return nil, err
	}
	p := &Policy{
		Resource: r.Resource, Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(), UID: string(o.GetUID()),
		Generation: o.GetGeneration(), Document: text,
	}
	if r.own {
		// A status that is none was written by nobody who may, and is written anew.
		_ = fromMap(o.Object["status"], &p.Status)
	}
	return p, nil
}

// fromMap reads a decoded JSON value into a struct.
func fromMap(v, into any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("reading a value: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading a value: %w", err)
	}
	return nil
}

// The pause before a resource that the API does not have is looked for again, and as much again by chance.
const lookAgain = 15 * time.Second

// followPolicies keeps a resource's table while the API has the resource. One that it does not have has no objects.
func (s *Source) followPolicies(ctx context.Context, r *policyResource) {
	of := s.client.dynamic.Resource(r.GroupVersionResource)
	for missing := 0; ctx.Err() == nil; {
		_, err := of.List(ctx, metav1.ListOptions{Limit: 1})
		s.health.saw(ctx, r.Resource, unlessMissing(err))
		switch {
		case err == nil:
			missing = 0
			s.followThere(ctx, r)
			continue
		case apierrors.IsNotFound(err):
			missing++
		default:
			missing = 0
		}
		// An API that is starting, or half of it, may not have found its CRDs yet: policies that there were stay until it
		// has said twice that they are gone (fails closed).
		if missing > 1 || missing == 1 && r.table.empty() {
			_ = r.table.Replace(nil, "") // of no objects none cannot be read
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.lookAgain + rand.N(s.lookAgain)): //nolint:gosec // spreads load, hides nothing
		}
	}
}

// unlessMissing is an error, unless it says that the API does not have what was asked for.
func unlessMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// followThere follows a resource until the API has it no more.
func (s *Source) followThere(ctx context.Context, r *policyResource) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	of := s.client.dynamic.Resource(r.GroupVersionResource)
	missing := func(err error) error {
		if apierrors.IsNotFound(err) {
			end()
		}
		return err
	}
	follow(ctx, s.health, resource{
		name: r.Resource,
		list: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			list, err := of.List(ctx, opts)
			return list, missing(err)
		},
		watch: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			w, err := of.Watch(ctx, opts)
			return w, missing(err)
		},
	}, &unstructured.Unstructured{}, r.table)
}

// gathered is the policies of all resources in one list.
type gathered struct {
	of       [][]*Policy
	policies []*Policy
}

// gather puts the policies in one list, another one if any has changed, and says whether every resource was heard.
func (g *gathered) gather(resources []*policyResource) (policies []*Policy, synced bool) {
	synced = true
	of := make([][]*Policy, len(resources))
	for i, r := range resources {
		var once bool
		of[i], once = r.table.list()
		synced = synced && once
	}
	if !slices.EqualFunc(g.of, of, sameList) {
		g.of, g.policies = of, slices.Concat(of...)
	}
	return g.policies, synced
}
