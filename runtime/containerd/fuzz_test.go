package containerd

import (
	"testing"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
)

// FuzzDescribe: whatever containerd keeps of a container and its pod, names have a bound, and what an image says of itself makes
// it no pod's.
func FuzzDescribe(f *testing.F) {
	f.Add([]byte(`{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"web"},"linux":{"cgroupsPath":"/a"}}`),
		[]byte(`{"Metadata":{"Config":{"annotations":{"probes.sallyport.dev/web":"[]"}}}}`), "io.kubernetes.pod.name", "other")
	f.Add([]byte(`{"linux":{"namespaces":[{"type":"network"}]}}`), []byte(`{}`), "app", "web")
	f.Fuzz(func(t *testing.T, spec, extension []byte, label, value string) {
		e, err := describe("ns", containers.Container{
			ID: "id", Image: value, Labels: map[string]string{label: value}, Spec: rawSpec(spec),
			Extensions: map[string]typeurl.Any{extensionSandbox: rawSpec(extension)},
		})
		if e.ID != "id" {
			t.Fatalf("it is %q", e.ID)
		}
		for _, text := range []string{e.Name, e.Image, e.Pod.Name, e.Pod.Namespace, e.Pod.UID} {
			if len(text) > maxName {
				t.Errorf("a name of %d bytes", len(text))
			}
		}
		if e.sandboxID == "" && (e.Pod.Name != "id" || e.Pod.Namespace != "ns" || e.Pod.UID != "") && err == nil && len(spec) > 0 {
			if _, ok := e.Labels[label]; ok { // labels that no annotation made the pod's
				t.Errorf("without a pod it is in %+v", e.Pod)
			}
		}
	})
}
