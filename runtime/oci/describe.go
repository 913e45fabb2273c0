package oci

import (
	"encoding/json"

	"github.com/sallyport/sallyport/runtime/identity"
)

// keys are the annotations in which a CRI runtime tells of a container's pod.
type keys struct {
	runtime, kind, namespace, pod, uid, name string
	labels                                   string // JSON; "": it tells of none
}

// dialects are those of the runtimes that are known.
func dialects() []keys {
	return []keys{
		{
			runtime: "containerd", kind: "io.kubernetes.cri.container-type", namespace: "io.kubernetes.cri.sandbox-namespace",
			pod: "io.kubernetes.cri.sandbox-name", uid: "io.kubernetes.cri.sandbox-uid", name: "io.kubernetes.cri.container-name",
		},
		{
			runtime: "cri-o", kind: "io.kubernetes.cri-o.ContainerType", namespace: "io.kubernetes.cri-o.Namespace",
			pod: "io.kubernetes.cri-o.KubeName", uid: identity.LabelUID, name: "io.kubernetes.container.name",
			labels: "io.kubernetes.cri-o.Labels",
		},
	}
}

const maxName = 512 // bytes that are kept of a name

// Describe says what a container is by the annotations of its spec alone, for a runtime that cannot be asked. Of probes
// it says nothing: some runtimes copy an image's annotations to the spec, and an image must not choose who is Probe.
func Describe(id string, annotations map[string]string) identity.Container {
	c := identity.Container{ID: id, Name: id, Type: identity.TypeApp, Labels: map[string]string{}, Pod: identity.Pod{Name: id}}
	for _, k := range dialects() {
		kind := annotations[k.kind]
		if kind == "" {
			continue
		}
		c.Runtime = k.runtime
		c.Pod = identity.Pod{Namespace: clip(annotations[k.namespace]), Name: clip(annotations[k.pod]), UID: clip(annotations[k.uid])}
		if name := annotations[k.name]; name != "" {
			c.Name = clip(name)
		}
		if kind == "sandbox" {
			c.Type, c.Name = identity.TypeSandbox, id
		}
		var labels map[string]string
		if json.Unmarshal([]byte(annotations[k.labels]), &labels) == nil {
			c.Labels, _ = identity.PodLabels(labels)
		} // else fails open: policies that select by label do not select it
		break
	}
	return c
}

// Telling keeps of a spec's annotations those that Describe reads.
func Telling(annotations map[string]string) map[string]string {
	kept := map[string]string{}
	for _, k := range dialects() {
		for _, key := range []string{k.kind, k.namespace, k.pod, k.uid, k.name, k.labels} {
			if value, ok := annotations[key]; ok {
				kept[key] = value
			}
		}
	}
	return kept
}

func clip(s string) string { return s[:min(len(s), maxName)] }
