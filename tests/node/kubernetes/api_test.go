package kubernetes

import (
	"strings"
	"syscall"
	"testing"
)

// TestAPIAlone has an API server that keeps what it was told over a restart.
func TestAPIAlone(t *testing.T) {
	api := NewAPI(t, APIOptions{})
	api.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n")
	api.Stop(t, syscall.SIGKILL)
	if err := api.Get(t.Context(), "/readyz", nil); err == nil {
		t.Error("a server that was killed answers")
	}
	api.Start(t)
	var namespace struct {
		Metadata struct{ Labels map[string]string }
	}
	if err := api.Get(t.Context(), "/api/v1/namespaces/shop", &namespace); err != nil {
		t.Fatal(err)
	}
	if got := namespace.Metadata.Labels["team"]; got != "a" {
		t.Errorf("the namespace has the label team=%q, want a", got)
	}
	if out := api.Must(t, "get", "namespaces", "-o", "name"); !strings.Contains(out, "namespace/shop\n") {
		t.Errorf("kubectl sees %q", out)
	}
	r, err := api.Kubectl(t, "", "get", "namespace", "none")
	if err != nil || r.Code != 1 || !strings.Contains(r.Stderr, "NotFound") {
		t.Errorf("asking for what is not there: %v, %+v", err, r)
	}
}
