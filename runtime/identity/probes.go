package identity

import (
	"encoding/json"
	"errors"
	"fmt"
)

// AnnotationProbes names a container's exec probes and lifecycle commands where the pod's spec is not at hand:
// sallyport.dev/probes.NAME on the pod, for its container NAME, holds a JSON array of argument vectors, such as
// [["cat","/tmp/healthy"],["/bin/stop","--now"]]. An image cannot set it.
const AnnotationProbes = "sallyport.dev/probes."

// Limits on the annotation. What the kernel can compare is less: see Container.Probes.
const (
	maxProbeBytes = 64 << 10
	maxProbes     = 64
)

// ParseProbes reads the annotation for the container called name.
func ParseProbes(annotations map[string]string, name string) ([][]string, error) {
	text := annotations[AnnotationProbes+name]
	if text == "" {
		return nil, nil
	}
	key := AnnotationProbes + name
	if len(text) > maxProbeBytes {
		return nil, fmt.Errorf("reading annotation %s: it has more than %d bytes", key, maxProbeBytes)
	}
	var probes [][]string
	if err := json.Unmarshal([]byte(text), &probes); err != nil {
		return nil, fmt.Errorf("reading annotation %s: %w", key, err)
	}
	if len(probes) > maxProbes {
		return nil, fmt.Errorf("reading annotation %s: there are more than %d commands", key, maxProbes)
	}
	for _, argv := range probes {
		if len(argv) == 0 || argv[0] == "" {
			return nil, fmt.Errorf("reading annotation %s: %w", key, errEmptyCommand)
		}
	}
	return probes, nil
}

var errEmptyCommand = errors.New("a command is empty")
