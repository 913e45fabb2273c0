package flows

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// PodLabels says which labels pods have, for events that do not tell.
type PodLabels struct {
	pod    policy.Glob // on namespace/pod
	labels map[string]string
}

// ParsePodLabels reads NAMESPACE/POD:KEY=VALUE,KEY=VALUE, where the pod may be a pattern.
func ParsePodLabels(text string) (PodLabels, error) {
	const form = "write it as shop/checkout-*:app=checkout,tier=web"
	pod, labels, ok := strings.Cut(text, ":")
	if !ok || strings.Count(pod, "/") != 1 {
		return PodLabels{}, fmt.Errorf("reading %s: %s", policy.Quote(text), form)
	}
	// A leading slash makes it a path, in which * does not match the slash.
	glob, err := policy.ParseGlob("/" + pod)
	if err != nil {
		return PodLabels{}, fmt.Errorf("reading %s: %w", policy.Quote(text), err)
	}
	out := parseLabels(labels)
	if out == nil {
		return PodLabels{}, fmt.Errorf("reading %s: %s", policy.Quote(text), form)
	}
	return PodLabels{glob, out}, nil
}

func (p *PodLabels) matches(namespace, pod string) bool {
	return p.pod.Match("/" + namespace + "/" + pod)
}

// parseLabels reads what LabelText writes; nil where it is not that.
func parseLabels(text string) map[string]string {
	if text == "" {
		return nil
	}
	out := map[string]string{}
	unescape := strings.NewReplacer("%2C", ",", "%3D", "=", "%25", "%")
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" {
			return nil
		}
		out[unescape.Replace(key)] = unescape.Replace(value)
	}
	return out
}

// Owner guesses the name of what made a pod: a Deployment, DaemonSet, Job or StatefulSet adds a suffix to
// its own name, in which no vowels occur. A name without one stays as it is.
func Owner(pod string) string {
	const random, longestHash = 5, 10
	name, last, ok := cutLast(pod)
	switch {
	case !ok:
		return pod
	case strings.Trim(last, "0123456789") == "": // of a StatefulSet
		return name
	case len(last) != random || !isRandom(last):
		return pod
	}
	if deployment, hash, ok := cutLast(name); ok && len(hash) <= longestHash && len(hash) > random && isRandom(hash) {
		return deployment
	}
	return name
}

// cutLast cuts a name at its last dash.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i <= 0 || i == len(s)-1 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// isRandom says whether a text is made of what Kubernetes makes random names of.
func isRandom(s string) bool { return strings.Trim(s, "bcdfghjklmnpqrstvwxz2456789") == "" }
