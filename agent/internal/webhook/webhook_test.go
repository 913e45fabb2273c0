package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/runtime/kube"
	"github.com/sallyport/sallyport/runtime/kube/admission"
)

// ask sends a review as the API does, and returns what it says.
func ask(t *testing.T, w *webhook, resource, sub, object string, more string) (allowed bool, message string, warnings []string) {
	t.Helper()
	server := httptest.NewServer(admission.Handler(w.decide))
	defer server.Close()
	body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","resource":{"group":"","version":"v1","resource":%q},
	 "subResource":%q,"namespace":"shop","name":"web","userInfo":{"username":"alice"},"object":%s%s}}`, resource, sub, object, more)
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var review struct {
		Kind     string
		Response struct {
			UID      string
			Allowed  bool
			Warnings []string
			Status   struct{ Message string }
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&review); err != nil || review.Kind != "AdmissionReview" || review.Response.UID != "u1" {
		t.Fatalf("%v: %+v", err, review)
	}
	return review.Response.Allowed, review.Response.Status.Message, review.Response.Warnings
}

func policyObject(spec string) string {
	return `{"apiVersion":"sallyport.dev/v1alpha1","kind":"ProcessPolicy","metadata":{"name":"web","namespace":"shop","uid":"u","managedFields":[],
	 "annotations":{"x":"` + strings.Repeat("x", 5000) + `"}},"spec":` + spec + `,"status":{"workloads":1}}`
}

func TestWrongPoliciesAreRefused(t *testing.T) {
	t.Parallel()
	w := &webhook{}
	for name, tc := range map[string]struct {
		spec, message, warning string
	}{
		"right":    {spec: `{"podSelector":{},"rules":[{"name":"a","egress":[{"toServices":[{"k8sService":{"serviceName":"x"}}]}]}]}`},
		"broken":   {spec: `{"podSelector":{},"rules":[{"name":"a","egress":[{"toCIDR":["10.0.0.0/33"]}]}]}`, message: "shop/web: spec.rules[0].egress[0].toCIDR[0]: "},
		"unknown":  {spec: `{"podSelector":{},"rules":[{"name":"a","egres":[],"egress":[]}]}`, message: "shop/web: spec.rules[0].egres: "},
		"not here": {spec: `{"podSelector":{},"rules":[{"name":"a","processes":[{"scripts":[{"interpreter":"/bin/sh","path":"/a"}]}],"egress":[]}]}`, warning: "scripts is enforced only on kernels"},
	} {
		allowed, message, warnings := ask(t, w, "processpolicies", "", policyObject(tc.spec), "")
		if allowed != (tc.message == "") || !strings.HasPrefix(message, tc.message) || !strings.Contains(strings.Join(warnings, "\n"), tc.warning) {
			t.Errorf("%s: allowed %t, %q, warnings %q", name, allowed, message, warnings)
		}
	}
}

const execOptions = `{"kind":"PodExecOptions","apiVersion":"v1","stdin":true,"tty":true,"container":"app","command":["sh","-c","id"]}`

func TestCallsAreToldAndPass(t *testing.T) {
	t.Parallel()
	log, logged := test.NewNullLogger()
	var told []kube.Call
	var fails error
	w := &webhook{log: log, callsNamespace: "sallyport", record: func(_ context.Context, c kube.Call) error {
		told = append(told, c)
		return fails
	}}
	if allowed, message, _ := ask(t, w, "pods", "exec", execOptions, ""); !allowed || len(told) != 1 {
		t.Fatalf("allowed %t, %s, told %v", allowed, message, told)
	}
	if c := told[0].Caller; c.User != "alice" || c.Namespace != "shop" || c.Pod != "web" || c.Container != "app" || fmt.Sprint(c.Args) != "[sh -c id]" || told[0].Kind != "exec" {
		t.Errorf("told is %+v", told[0])
	}
	if allowed, _, _ := ask(t, w, "pods", "exec", execOptions, `,"dryRun":true`); !allowed || len(told) != 1 {
		t.Error("a dry run is told")
	}
	fails = errors.New("the API is away")
	if allowed, _, _ := ask(t, w, "pods", "portforward", `{"ports":[80]}`, ""); !allowed || len(told) != 2 || len(logged.AllEntries()) != 1 {
		t.Errorf("that nobody can be told stops a call: allowed %t, logged %v", allowed, logged.AllEntries())
	}
}

func TestCallsIntoPodsWithoutAPolicyAreRefusedIfThatIsAsked(t *testing.T) {
	t.Parallel()
	log, _ := test.NewNullLogger()
	var now kube.Snapshot
	w := &webhook{cfg: config.Webhook{RequirePolicy: true}, log: log, known: func() kube.Snapshot { return now }}
	step := func(want string) {
		t.Helper()
		allowed, message, _ := ask(t, w, "pods", "exec", execOptions, "")
		if allowed != (want == "") || !strings.Contains(message, want) {
			t.Errorf("allowed %t: %q, want %q", allowed, message, want)
		}
	}
	step("not known yet")
	now.Synced = true
	step("the pod is not known")
	now.Pods = []*kube.Pod{{Name: "web", Template: &kube.Template{Namespace: "shop", Labels: map[string]string{"app": "web"}}}}
	step("no policy of Sallyport selects the pod")
	now.Policies = []*kube.Policy{{Resource: "processpolicies", Document: []byte(`{"broken":1}`)}, {Resource: "processpolicies", Document: []byte(
		`{"apiVersion":"sallyport.dev/v1alpha1","kind":"ProcessPolicy","metadata":{"name":"p","namespace":"shop"},"spec":{"podSelector":{"matchLabels":{"app":"web"}},"rules":[{"egress":[]}]}}`)}}
	step("")
}

func TestWhatIsNoReviewIsRefused(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "{}", `{"request":7}`, strings.Repeat("[", 100)} {
		w := httptest.NewRecorder()
		admission.Handler((&webhook{}).decide).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body)))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d", body, w.Code)
		}
	}
}
