package containerd

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sallyport/sallyport/runtime/identity"
)

// Annotations that containerd's CRI plugin writes into the OCI spec. They are what makes a container one of a pod.
// Labels are not: an image can carry the label io.kubernetes.pod.name, and tools other than the CRI plugin copy an
// image's labels to the container, so that it could pass for another pod's.
const (
	annotationType      = "io.kubernetes.cri.container-type"
	annotationSandboxID = "io.kubernetes.cri.sandbox-id"
	annotationPod       = "io.kubernetes.cri.sandbox-name"
	annotationNamespace = "io.kubernetes.cri.sandbox-namespace"
	annotationUID       = "io.kubernetes.cri.sandbox-uid"
	annotationName      = "io.kubernetes.cri.container-name"
	typeSandbox         = "sandbox"
)

// Labels that the kubelet and the CRI plugin add to those of the pod. In a pod they win over an image's.
const (
	labelPod       = "io.kubernetes.pod.name"
	labelNamespace = "io.kubernetes.pod.namespace"
	labelUID       = "io.kubernetes.pod.uid"
	labelName      = "io.kubernetes.container.name"
	labelsOfCRI    = "io.cri-containerd."
)

// Limits on what is kept of a container's labels and names, far above what Kubernetes allows to be useful.
const (
	maxLabels     = 1024
	maxLabelBytes = 256 << 10 // keys and values in sum
	maxName       = 512       // bytes
)

// entry is what is known of a container.
type entry struct {
	identity.Container
	sandboxID   string // container that carries the pod's labels; "" without a pod
	cgroupsPath string // of the OCI spec
	specHostNet bool   // the OCI spec asks for no network namespace
	dropped     int    // labels over the limits
}

// describe reads a container's record; of its task it knows nothing. A spec that cannot be read leaves a container
// without a pod, with its own labels, and an error that says so.
func describe(namespace string, record containers.Container) (entry, error) {
	e := entry{Container: identity.Container{
		ID:        record.ID,
		Runtime:   Runtime,
		Namespace: namespace,
		Name:      record.ID,
		Type:      identity.TypeApp,
		Image:     clip(record.Image),
		Pod:       identity.Pod{Namespace: namespace, Name: record.ID},
		CreatedAt: record.CreatedAt,
	}}
	e.Labels, e.dropped = boundLabels(record.Labels)
	if record.Spec == nil {
		return e, fmt.Errorf("describing container %s: it has no spec", record.ID)
	}
	var spec specs.Spec
	if err := json.Unmarshal(record.Spec.GetValue(), &spec); err != nil {
		return e, fmt.Errorf("describing container %s: reading its spec: %w", record.ID, err)
	}
	if spec.Linux != nil {
		e.cgroupsPath = spec.Linux.CgroupsPath
		e.specHostNet = !slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
			return ns.Type == specs.NetworkNamespace
		})
		e.Pod.HostNetwork = e.specHostNet
	}
	if spec.Annotations[annotationType] != "" {
		e.describePod(record.Labels, spec.Annotations)
	}
	return e, nil
}

// describePod fills in the pod of a container that the CRI plugin made. Only a sandbox carries the pod's labels; the
// other containers get theirs from it (their own are the image's to choose).
func (e *entry) describePod(labels, annotations map[string]string) {
	e.Pod.Name = clip(first(annotations[annotationPod], labels[labelPod]))
	e.Pod.Namespace = clip(first(annotations[annotationNamespace], labels[labelNamespace]))
	e.Pod.UID = clip(first(annotations[annotationUID], labels[labelUID]))
	e.Name = clip(first(annotations[annotationName], labels[labelName], e.ID))
	e.sandboxID, e.dropped = annotations[annotationSandboxID], 0
	e.Labels = nil
	if annotations[annotationType] != typeSandbox {
		return
	}
	e.Type = identity.TypeSandbox
	e.sandboxID = e.ID
	own := maps.Clone(labels)
	maps.DeleteFunc(own, func(key, _ string) bool {
		return strings.HasPrefix(key, labelsOfCRI) || key == labelPod || key == labelNamespace || key == labelUID
	})
	e.Labels, e.dropped = boundLabels(own)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func clip(s string) string { return s[:min(len(s), maxName)] }

// boundLabels copies labels up to the limits, in the order of their keys, and counts what it left out. Whoever sets so
// many labels on a pod chooses by them which policies select it anyway.
func boundLabels(labels map[string]string) (map[string]string, int) {
	keys := slices.Sorted(maps.Keys(labels))
	kept := make(map[string]string, min(len(labels), maxLabels))
	size := 0
	for _, key := range keys {
		size += len(key) + len(labels[key])
		if len(kept) == maxLabels || size > maxLabelBytes {
			break
		}
		kept[key] = labels[key]
	}
	return kept, len(labels) - len(kept)
}
