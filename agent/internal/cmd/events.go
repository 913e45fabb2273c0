package cmd

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport/policy/flows"
)

// podLabelsHelp explains the flag that learn and diff share.
const podLabelsHelp = `Policies select pods by labels. Events of an agent that does not tell them need --pod-labels.`

// addPodLabels adds the flag that says which labels pods have.
func addPodLabels(flags *pflag.FlagSet) *[]string {
	return flags.StringArray("pod-labels", nil, "labels of pods, where the events do not tell: NAMESPACE/POD:KEY=VALUE,…; the pod may be a glob; may be given more than once")
}

// readFlows reads what was seen from a file or standard input.
func (p Program) readFlows(path string, labels []string) (flows.Log, error) {
	var o flows.Options
	for _, text := range labels {
		l, err := flows.ParsePodLabels(text)
		if err != nil {
			return flows.Log{}, usageError{fmt.Errorf("reading --pod-labels: %w", err)}
		}
		o.Labels = append(o.Labels, l)
	}
	f, err := p.open(path)
	if err != nil {
		return flows.Log{}, err
	}
	defer func() { _ = f.Close() }() // it was only read
	log, err := flows.Read(f, o)
	if err != nil {
		return flows.Log{}, fmt.Errorf("reading %s: %w", nameOf(path), err)
	}
	return log, nil
}
