// Package feature finds out what the running kernel can load, by programs of two instructions that
// have nothing to do with ours: where such a one works and ours does not, ours is broken. It imports
// cilium/ebpf and nothing of this module.
package feature

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// function is a kernel function that every kernel with our hooks has.
const function = "security_socket_connect"

// Probe returns nil when the kernel has a feature, else why it has not.
type Probe func() error

// LSM is BPF LSM: its programs load, and bpf is among the active modules.
func LSM() error {
	const path = "/sys/kernel/security/lsm"
	active, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the active security modules: %w", err)
	}
	if !slices.Contains(strings.Split(strings.TrimSpace(string(active)), ","), "bpf") {
		return fmt.Errorf("bpf is not among the active security modules %s", active)
	}
	return LSMLoads()
}

// LSMLoads is the loading of LSM programs alone; without bpf among the active modules they are never called.
func LSMLoads() error { return traced(ebpf.LSM, ebpf.AttachLSMMac, "socket_connect") }

// Fentry is tracing the entry of a kernel function.
func Fentry() error { return traced(ebpf.Tracing, ebpf.AttachTraceFEntry, function) }

// ModRet is changing what a kernel function returns (fmod_ret).
func ModRet() error { return traced(ebpf.Tracing, ebpf.AttachModifyReturn, function) }

// traced loads and attaches a program that needs a trampoline and returns 0.
func traced(typ ebpf.ProgramType, attach ebpf.AttachType, to string) (err error) {
	prog, err := load(&ebpf.ProgramSpec{Type: typ, AttachType: attach, AttachTo: to})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, prog.Close()) }()
	var l link.Link
	if typ == ebpf.LSM {
		l, err = link.AttachLSM(link.LSMOptions{Program: prog})
	} else {
		l, err = link.AttachTracing(link.TracingOptions{Program: prog})
	}
	if err != nil {
		return fmt.Errorf("attaching a %s program to %s: %w", attach, to, err)
	}
	return l.Close()
}

// Kprobe is attaching a kprobe.
func Kprobe() (err error) {
	prog, err := load(&ebpf.ProgramSpec{Type: ebpf.Kprobe})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, prog.Close()) }()
	l, err := link.Kprobe(function, prog, nil)
	if err != nil {
		return fmt.Errorf("attaching a kprobe to %s: %w", function, err)
	}
	return l.Close()
}

// CgroupTaskStorage is task storage in cgroup socket programs.
func CgroupTaskStorage() error {
	if err := features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnTaskStorageGet); err != nil {
		return fmt.Errorf("task storage in a cgroup socket program: %w", err)
	}
	return nil
}

func load(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	spec.License = "GPL"
	spec.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, fmt.Errorf("loading a program of type %s %s: %w", spec.Type, spec.AttachType, err)
	}
	return prog, nil
}
