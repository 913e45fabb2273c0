// Package webhook is the part of Sallyport that a cluster's API asks: whether a policy is right, before it is stored, and
// whether somebody may call into a pod, of whom it tells the agents. It reads with the same parser as they do, keeps no
// state, and runs beside them, in a Deployment of its own.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/kube"
	"github.com/sallyport/sallyport/runtime/kube/admission"
)

// recordTime bounds how long telling the agents of a call may hold it up.
const recordTime = time.Second

// webhook decides.
type webhook struct {
	cfg            config.Webhook
	log            logrus.FieldLogger
	callsNamespace string
	record         func(context.Context, kube.Call) error
	known          func() kube.Snapshot
}

// Run serves until ctx ends.
func Run(ctx context.Context, cfg config.Config, log logrus.FieldLogger) error {
	log = log.WithField("component", "webhook")
	source, err := kube.New(kube.Config{
		Kubeconfig: cfg.Kube.Kubeconfig, NodeName: "webhook", UserAgent: "sallyport-webhook", CallsNamespace: cfg.Kube.CallsNamespace,
	}, log)
	if err != nil {
		return err
	}
	w := &webhook{cfg: cfg.Webhook, log: log, callsNamespace: cfg.Kube.CallsNamespace, record: source.RecordCall, known: source.Snapshot}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx, cfg.Webhook, admission.Handler(w.decide), log) })
	if cfg.Webhook.RequirePolicy {
		g.Go(func() error { return source.Run(ctx) })
	}
	return g.Wait()
}

// decide answers the API.
func (w *webhook) decide(ctx context.Context, r *admission.Request) admission.Answer {
	if r.Resource == "pods" {
		return w.call(ctx, r)
	}
	return review(r)
}

// review says whether a policy is right. What is right, and not enforced on every kernel, is a warning: nobody knows here
// which the nodes have.
func review(r *admission.Request) admission.Answer {
	name := r.Name
	if r.Namespace != "" {
		name = r.Namespace + "/" + name
	}
	document, err := kube.PolicyDocument(r.Object)
	if err != nil {
		return admission.Answer{Message: err.Error()}
	}
	policies, err := policy.ParseObject(name, document)
	if err != nil {
		return admission.Answer{Message: err.Error()}
	}
	answer := admission.Answer{Allowed: true}
	if _, err := (compile.Enforced{World: true}).Compile(compile.Input{Policies: policies}); err != nil {
		answer.Warnings = strings.Split(err.Error(), "\n")
	}
	return answer
}

// call lets a call into a pod pass, and tells the agents of it. That they cannot be told stops nobody: it is for the
// report. Where a policy is required and cannot be looked for, the call is refused (fails closed): that is what was asked
// for.
func (w *webhook) call(ctx context.Context, r *admission.Request) admission.Answer {
	options, err := r.Options()
	if err != nil {
		return admission.Answer{Message: err.Error()}
	}
	if w.cfg.RequirePolicy {
		if err := w.governed(r); err != nil {
			return admission.Answer{Message: err.Error()}
		}
	}
	if r.DryRun || w.callsNamespace == "" {
		return admission.Answer{Allowed: true}
	}
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	err = w.record(ctx, kube.Call{Kind: r.Subresource, Caller: identity.Caller{
		Time: time.Now(), User: r.User, Namespace: r.Namespace, Pod: r.Name, Container: options.Container, Args: options.Command,
	}})
	if err != nil {
		w.log.WithError(err).Error("agents could not be told who calls")
	}
	return admission.Answer{Allowed: true}
}

// The reasons for which a call is refused.
var (
	errUnknown    = errors.New("the cluster is not known yet: try again")
	errNoPod      = errors.New("the pod is not known")
	errUngoverned = errors.New("no policy of Sallyport selects the pod, and calls into pods without one are refused (webhook.requirePolicy)")
)

// governed says why no policy selects a pod; nil: one does.
func (w *webhook) governed(r *admission.Request) error {
	wrap := func(err error) error { return fmt.Errorf("calling into pod %s/%s: %w", r.Namespace, r.Name, err) }
	now := w.known()
	if !now.Synced {
		return wrap(errUnknown)
	}
	at := slices.IndexFunc(now.Pods, func(p *kube.Pod) bool { return p.Namespace == r.Namespace && p.Name == r.Name })
	if at < 0 {
		return wrap(errNoPod)
	}
	pod := now.Pods[at]
	of := &policy.Workload{Namespace: pod.Namespace, Pod: pod.Name, Labels: pod.Labels, ServiceAccount: pod.ServiceAccount}
	for _, n := range now.Namespaces {
		if n.Name == pod.Namespace {
			of.NamespaceLabels = n.Labels
		}
	}
	for _, p := range now.Policies {
		policies, err := policy.ParseObject(p.Key(), p.Document)
		if err != nil {
			continue // a policy that is broken governs nobody
		}
		if slices.ContainsFunc(policies, func(p *policy.Policy) bool { return p.Selects(of) }) {
			return nil
		}
	}
	return wrap(errUngoverned)
}
