package probes

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sallyport/sallyport/probes/internal/attach"
)

// ftraceSwitch is off where nobody may trace functions. Trampolines (LSM, fentry, fmod_ret) and kprobes are attached then, and
// shown as attached, and never called; since Linux 6.4 it can be switched off below those that are there.
const ftraceSwitch = "/proc/sys/kernel/ftrace_enabled"

// FtraceEnabled reports why functions are not traced. Where that cannot be read it is taken for on: a kernel without the switch
// has no trampolines to attach either.
func FtraceEnabled() error {
	text, err := os.ReadFile(ftraceSwitch)
	if err == nil && strings.TrimSpace(string(text)) == "0" {
		return errors.New("the kernel does not trace functions (switch that on: sysctl kernel.ftrace_enabled=1)")
	}
	return nil
}

// NeedFtrace says that programs are attached that are only called while functions are traced: Check looks after that.
func (k *Kernel) NeedFtrace() { k.ftrace.Store(true) }

// checkFtrace switches it on again. Until then what was judged at calls is left to the gate: closed where a pod has one.
func (k *Kernel) checkFtrace() []Finding {
	if !k.ftrace.Load() || FtraceEnabled() == nil {
		return nil
	}
	err := os.WriteFile(ftraceSwitch, []byte("1"), 0)
	if err != nil {
		err = fmt.Errorf("switching it on again: %w", err)
	}
	return []Finding{{Thing: attach.ThingSetting, Name: "kernel.ftrace_enabled", Err: err}}
}
