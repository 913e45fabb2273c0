package judge

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
)

// called reports why the programs of a step would not be called, where the kernel loads and attaches them all the same.
func called(step event.Step) error {
	switch step {
	case event.StepLSM:
		if err := lsmActive(); err != nil {
			return err
		}
		return probes.FtraceEnabled()
	case event.StepModRet:
		return probes.FtraceEnabled()
	case event.StepReport:
		return kprobesArmed()
	case event.StepCgroup, event.StepNone, event.StepGate, event.StepTap:
	}
	return nil
}

// lsmActive reports why LSM programs would not be called: they load and attach all the same when bpf
// is not among the active LSMs.
func lsmActive() error {
	const path = "/sys/kernel/security/lsm"
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("seeing whether BPF LSM is active: %w (mount securityfs at /sys/kernel/security)", err)
	}
	if !slices.Contains(strings.Split(strings.TrimSpace(string(b)), ","), "bpf") {
		return fmt.Errorf("bpf is not among the active LSMs %q (kernel command line lsm=)", strings.TrimSpace(string(b)))
	}
	return nil
}

// kprobesArmed reports why kprobes would not be called: they are switched off, or ftrace is, by which those at a function's entry
// are. Where that cannot be read they are taken for armed (open, as the step is that needs them).
func kprobesArmed() error {
	const path = "/sys/kernel/debug/kprobes/enabled"
	if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == "0" {
		return fmt.Errorf("kprobes are switched off (switch them on: echo 1 >%s)", path)
	}
	return probes.FtraceEnabled()
}
