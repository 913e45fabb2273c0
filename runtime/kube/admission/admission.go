// Package admission speaks the protocol in which a Kubernetes API asks a webhook whether something may be: it turns a
// review into a Request, and an Answer into what the API understands. It decides nothing.
package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxReview bounds a request, in bytes. The API's own objects are smaller than half of it.
const maxReview = 8 << 20

// Request is what the API asks about.
type Request struct {
	Resource    string // plural: pods, processpolicies
	Subresource string // exec, attach, portforward; else empty
	Namespace   string
	Name        string
	User        string // as the API has authenticated it
	Object      []byte // JSON; of a call into a pod its options
	DryRun      bool
}

// Answer is what the API is told.
type Answer struct {
	Allowed  bool
	Message  string   // why not
	Warnings []string // shown to the user, a line each
}

// Options are those of a call into a pod.
type Options struct {
	Container string
	Command   []string
}

// Options reads the options of a call into a pod.
func (r *Request) Options() (Options, error) {
	var o corev1.PodExecOptions // of which those of attach are a part, and with those of portforward nothing is shared
	if err := json.Unmarshal(r.Object, &o); err != nil {
		return Options{}, fmt.Errorf("reading the options of %s: %w", r.Subresource, err)
	}
	return Options{o.Container, o.Command}, nil
}

// errNoRequest is a review without a request in it.
var errNoRequest = errors.New("the review has no request")

// Handler answers reviews.
func Handler(decide func(context.Context, *Request) Answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		review, err := read(q.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r := review.Request
		answer := decide(q.Context(), &Request{
			Resource: r.Resource.Resource, Subresource: r.SubResource, Namespace: r.Namespace, Name: r.Name,
			User: r.UserInfo.Username, Object: r.Object.Raw, DryRun: r.DryRun != nil && *r.DryRun,
		})
		response := &admissionv1.AdmissionResponse{UID: r.UID, Allowed: answer.Allowed, Warnings: answer.Warnings}
		if !answer.Allowed {
			response.Result = &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: answer.Message}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: response}) // whoever went does not read it
	})
}

func read(body io.Reader) (*admissionv1.AdmissionReview, error) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(io.LimitReader(body, maxReview)).Decode(&review); err != nil {
		return nil, fmt.Errorf("reading a review: %w", err)
	}
	if review.Request == nil {
		return nil, fmt.Errorf("reading a review: %w", errNoRequest)
	}
	return &review, nil
}
