package containerd

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
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

// Labels that win over an image's in a pod.
const (
	labelPod       = identity.LabelPod
	labelNamespace = identity.LabelNamespace
	labelUID       = identity.LabelUID
	labelName      = "io.kubernetes.container.name"
)

const (
	maxName      = 512     // bytes that are kept of a name, far above what Kubernetes allows
	maxExtension = 4 << 20 // bytes of the CRI plugin's record; the pod's annotations in it have at most 256 KiB
)

// extensionSandbox is where the CRI plugin keeps a pod's configuration.
const extensionSandbox = "io.cri-containerd.sandbox.metadata"

// entry is what is known of a container.
type entry struct {
	identity.Container
	sandboxID   string            // container that carries the pod's labels; "" without a pod
	cgroupsPath string            // of the OCI spec
	specHostNet bool              // the OCI spec asks for no network namespace
	dropped     int               // labels over the limits
	annotations map[string]string // of a sandbox: the pod's, as far as they name probes
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
	e.Labels, e.dropped = identity.BoundLabels(record.Labels)
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
	if spec.Annotations[annotationType] == "" {
		var err error
		if e.Probes, err = identity.ParseProbes(spec.Annotations, record.ID); err != nil {
			return e, fmt.Errorf("describing container %s: %w", record.ID, err)
		}
		return e, nil
	}
	e.describePod(record.Labels, spec.Annotations)
	if e.Type != identity.TypeSandbox {
		return e, nil
	}
	if err := e.readAnnotations(record.Extensions[extensionSandbox]); err != nil {
		return e, fmt.Errorf("describing container %s: %w", record.ID, err)
	}
	return e, nil
}

// readAnnotations keeps those annotations of a pod that name probes, from what the CRI plugin keeps with the
// pod's sandbox.
func (e *entry) readAnnotations(extension typeurl.Any) error {
	if extension == nil {
		return nil
	}
	if len(extension.GetValue()) > maxExtension {
		return fmt.Errorf("reading the pod's annotations: its record has more than %d bytes", maxExtension)
	}
	var kept struct {
		Metadata struct {
			Config struct {
				Annotations map[string]string `json:"annotations"`
			}
		}
	}
	if err := json.Unmarshal(extension.GetValue(), &kept); err != nil {
		return fmt.Errorf("reading the pod's annotations: %w", err)
	}
	e.annotations = kept.Metadata.Config.Annotations
	maps.DeleteFunc(e.annotations, func(key, _ string) bool { return !strings.HasPrefix(key, identity.AnnotationProbes) })
	return nil
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
	e.Labels, e.dropped = identity.PodLabels(labels)
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

// takeFrom gives a container of a pod what the pod's sandbox carries.
func (e *entry) takeFrom(sandbox entry) (err error) {
	e.Labels = sandbox.Labels
	e.Probes, err = identity.ParseProbes(sandbox.annotations, e.Name)
	return err
}
