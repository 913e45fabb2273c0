package main

import (
	"regexp"
	"strconv"
	"strings"
)

// faultPattern matches the first line of what a kernel prints when something in it is broken.
var faultPattern = regexp.MustCompile(`\bBUG: |kernel BUG at |^WARNING: |\bOops: |general protection fault|Kernel panic|` +
	`^UBSAN: |refcount_t: |list_(add|del) corruption|unregister_netdevice: waiting`)

// faultContext is how many of the lines that follow a fault are kept with it: registers and a call trace.
const faultContext = 40

// kernelLog collects the guest kernel's warnings and picks the faults out of them.
type kernelLog struct {
	lines  []string
	faults []string // the lines of faults with what followed them
	follow int      // lines still to be kept for the last fault
}

// add takes one line, without the line break.
func (k *kernelLog) add(line string) {
	k.lines = append(k.lines, line)
	if faultPattern.MatchString(line) {
		k.follow = faultContext + 1
	}
	if k.follow > 0 {
		k.follow--
		k.faults = append(k.faults, line)
	}
}

// maxKernelLevel is the least urgent level that is passed on: warning. Call traces are printed at it as well.
const maxKernelLevel = 4

// parseKmsg reads a record of /dev/kmsg, "priority,sequence,time,flags;text" and perhaps lines of properties. It
// returns the text if the kernel itself wrote it (facility 0: what user space writes there never counts) at level
// warning or more urgent.
func parseKmsg(record string) (text string, ok bool) {
	head, text, found := strings.Cut(record, ";")
	if !found {
		return "", false
	}
	number, _, _ := strings.Cut(head, ",")
	priority, err := strconv.Atoi(number)
	if err != nil || priority < 0 || priority > maxKernelLevel { // facility is priority>>3
		return "", false
	}
	text, _, _ = strings.Cut(text, "\n")
	return text, true
}

// taints are the bits of /proc/sys/kernel/tainted that only a fault sets.
var taints = []struct {
	bit  uint
	name string
}{{5, "bad page"}, {7, "kernel died (Oops or BUG)"}, {9, "kernel warning"}, {14, "soft lockup"}}

// taintFaults names the faults in a value of /proc/sys/kernel/tainted. It finds those whose lines the log lost.
func taintFaults(tainted uint64) []string {
	var names []string
	for _, t := range taints {
		if tainted&(1<<t.bit) != 0 {
			names = append(names, t.name)
		}
	}
	return names
}
