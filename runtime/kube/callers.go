package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/sallyport/sallyport/runtime/identity"
)

// Calls of the API into pods travel from the webhook to the agents as Events, in the webhook's own namespace: who may write
// there is trusted to say who called. Events end by themselves, and kubectl shows them.
const (
	callReason     = "SallyportCall"
	callAnnotation = "sallyport.dev/call"
	maxCall        = 64 << 10 // bytes of the annotation
	maxCallMessage = 1000     // bytes
	callAge        = time.Minute
)

// Call is a call of the API into a pod.
type Call struct {
	Kind   string          `json:"kind"` // exec, attach, portforward
	Caller identity.Caller `json:"caller"`
}

// RecordCall tells the agents of a call.
func (s *Source) RecordCall(ctx context.Context, call Call) error {
	event, err := callEvent(s.cfg.CallsNamespace, call)
	if err != nil {
		return err
	}
	if err := s.client.core.Post().Namespace(s.cfg.CallsNamespace).Resource("events").Body(event).Do(ctx).Error(); err != nil {
		return fmt.Errorf("recording a call of %s into %s/%s: %w", call.Caller.User, call.Caller.Namespace, call.Caller.Pod, err)
	}
	return nil
}

// callEvent writes a call down.
func callEvent(namespace string, call Call) (*corev1.Event, error) {
	text, err := json.Marshal(call)
	if err != nil {
		return nil, fmt.Errorf("writing a call down: %w", err)
	}
	if len(text) > maxCall {
		return nil, fmt.Errorf("writing a call down: it has %d bytes, more than %d", len(text), maxCall)
	}
	c, at := &call.Caller, metav1.NewTime(call.Caller.Time)
	message := fmt.Sprintf("%s: %s into %s/%s %s", c.User, call.Kind, c.Namespace, c.Pod, c.Container)
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "call-", Namespace: namespace, Annotations: map[string]string{callAnnotation: string(text)}},
		InvolvedObject: corev1.ObjectReference{Kind: "Namespace", APIVersion: "v1", Name: namespace, Namespace: namespace},
		Related:        &corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: c.Namespace, Name: c.Pod},
		Reason:         callReason, Type: corev1.EventTypeNormal, Message: strings.ToValidUTF8(message[:min(len(message), maxCallMessage)], ""),
		Source: corev1.EventSource{Component: "sallyport-webhook"}, FirstTimestamp: at, LastTimestamp: at, Count: 1,
	}, nil
}

// readCall reads what callEvent wrote.
func readCall(obj any) (Call, error) {
	event, ok := obj.(*corev1.Event)
	if !ok {
		return Call{}, fmt.Errorf("an event is %T", obj)
	}
	var call Call
	if err := json.Unmarshal([]byte(event.Annotations[callAnnotation]), &call); err != nil {
		return Call{}, fmt.Errorf("reading event %s: %w", event.Name, err)
	}
	call.Caller.ID = string(event.UID)
	return call, nil
}

// callSink hands on calls as they are heard. It keeps none. What is no call, or an old one, is passed over: it is for the
// report only.
type callSink struct {
	take func(Call)
}

func (s callSink) Add(obj any) error {
	call, err := readCall(obj)
	if err != nil {
		return err
	}
	if time.Since(call.Caller.Time) < callAge {
		s.take(call)
	}
	return nil
}

func (callSink) Update(any) error { return nil }
func (callSink) Delete(any) error { return nil }
func (callSink) Resync() error    { return nil }

func (s callSink) Replace(objects []any, _ string) error {
	for _, obj := range objects {
		_ = s.Add(obj) // as above
	}
	return nil
}

// followCalls hands on the calls until ctx ends.
func (s *Source) followCalls(ctx context.Context) {
	request := func(opts *metav1.ListOptions) *rest.Request {
		opts.FieldSelector = "reason=" + callReason
		return s.client.core.Get().Namespace(s.cfg.CallsNamespace).Resource("events").VersionedParams(opts, metav1.ParameterCodec)
	}
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			return request(&opts).Do(ctx).Get()
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.Watch = true
			return request(&opts).Watch(ctx)
		},
	}, &corev1.Event{}, callSink{s.cfg.Calls}, cache.ReflectorOptions{Name: "calls"})
	reflector.RunWithContext(ctx)
}
