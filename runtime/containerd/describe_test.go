package containerd

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sallyport/sallyport/runtime/identity"
)

// rawSpec is an OCI spec as containerd keeps it.
type rawSpec []byte

//nolint:revive // the name is the interface's
func (rawSpec) GetTypeUrl() string { return "types.containerd.io/opencontainers/runtime-spec/1/Spec" }
func (s rawSpec) GetValue() []byte { return s }

var _ typeurl.Any = rawSpec{}

func record(t *testing.T, labels map[string]string, spec specs.Spec) containers.Container {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return containers.Container{ID: "id", Labels: labels, Image: "img", Spec: rawSpec(text), CreatedAt: time.Unix(1, 0)}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	base := identity.Container{
		ID: "id", Runtime: "containerd", Namespace: "ns", Name: "id", Type: identity.TypeApp, Image: "img",
		Labels: map[string]string{}, Pod: identity.Pod{Namespace: "ns", Name: "id"}, CreatedAt: time.Unix(1, 0),
	}
	pod := identity.Pod{Namespace: "shop", Name: "web-1", UID: "u1"}
	annotations := map[string]string{
		annotationType: "container", annotationSandboxID: "pause", annotationPod: "web-1", annotationNamespace: "shop",
		annotationUID: "u1", annotationName: "web",
	}
	kubelet := map[string]string{labelPod: "web-1", labelNamespace: "shop", labelUID: "u1", "app": "web", "io.cri-containerd.kind": "sandbox"}
	for _, tc := range []struct {
		name   string
		labels map[string]string
		spec   specs.Spec
		change func(*entry)
	}{
		{"no pod", map[string]string{"app": "x"}, specs.Spec{}, func(e *entry) { e.Labels["app"] = "x" }},
		{"an image's labels make no pod", kubelet, specs.Spec{}, func(e *entry) { e.Labels = kubelet }},
		{"of a pod", kubelet, specs.Spec{Annotations: annotations}, func(e *entry) {
			e.Name, e.Pod, e.Labels, e.sandboxID = "web", pod, nil, "pause"
		}},
		{
			"of a pod, from an older containerd", kubelet,
			specs.Spec{Annotations: map[string]string{annotationType: "container", annotationSandboxID: "pause"}},
			func(e *entry) { e.Pod, e.Labels, e.sandboxID = pod, nil, "pause" },
		},
		{"sandbox", kubelet, specs.Spec{Annotations: map[string]string{annotationType: "sandbox"}}, func(e *entry) {
			e.Type, e.Pod, e.Labels, e.sandboxID = identity.TypeSandbox, pod, map[string]string{"app": "web"}, "id"
		}},
		{"cgroup and the node's network", nil, specs.Spec{Linux: &specs.Linux{CgroupsPath: "/ns/id"}}, func(e *entry) {
			e.cgroupsPath, e.Pod.HostNetwork, e.specHostNet = "/ns/id", true, true
		}},
		{
			"a network of its own", nil,
			specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}}},
			func(*entry) {},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := describe("ns", record(t, tc.labels, tc.spec))
			if err != nil {
				t.Fatal(err)
			}
			want := entry{Container: base}
			want.Labels = map[string]string{}
			tc.change(&want)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
				t.Errorf("described (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDescribeWithoutASpec(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]typeurl.Any{"none": nil, "broken": rawSpec("{")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := describe("ns", containers.Container{ID: "id", Labels: map[string]string{labelPod: "other"}, Spec: spec})
			if err == nil || e.Pod.Name != "id" || e.ID != "id" {
				t.Errorf("got %+v, %v; want a container without a pod, and an error", e, err)
			}
		})
	}
}

func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	e, err := describe("ns", record(t, nil, specs.Spec{Annotations: map[string]string{
		annotationType: "container", annotationPod: strings.Repeat("p", 1<<20),
	}}))
	if err != nil || len(e.Pod.Name) != maxName {
		t.Errorf("a name of %d bytes was kept, %v", len(e.Pod.Name), err)
	}
}
