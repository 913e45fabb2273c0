package identity

import (
	"maps"
	"slices"
	"strings"
)

// Limits on what is kept of a container's labels, far above what Kubernetes allows to be useful.
const (
	maxLabels     = 1024
	maxLabelBytes = 256 << 10 // keys and values in sum
)

// Labels that the kubelet and containerd's CRI plugin add to those of a pod.
const (
	LabelPod       = "io.kubernetes.pod.name"
	LabelNamespace = "io.kubernetes.pod.namespace"
	LabelUID       = "io.kubernetes.pod.uid"
	labelsOfCRI    = "io.cri-containerd."
)

// PodLabels returns the labels that policies select a pod by from those that its runtime keeps, whichever
// way they came, and how many were over the limits.
func PodLabels(labels map[string]string) (kept map[string]string, dropped int) {
	own := maps.Clone(labels)
	maps.DeleteFunc(own, func(key, _ string) bool {
		return strings.HasPrefix(key, labelsOfCRI) || key == LabelPod || key == LabelNamespace || key == LabelUID
	})
	return BoundLabels(own)
}

// BoundLabels copies labels up to the limits, in the order of their keys, and counts what it left out. Whoever
// sets so many labels on a pod chooses by them which policies select it anyway.
func BoundLabels(labels map[string]string) (kept map[string]string, dropped int) {
	kept = make(map[string]string, min(len(labels), maxLabels))
	size := 0
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		size += len(key) + len(labels[key])
		if len(kept) == maxLabels || size > maxLabelBytes {
			break
		}
		kept[key] = labels[key]
	}
	return kept, len(labels) - len(kept)
}
