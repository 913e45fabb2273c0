package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFramesArrive(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	buf.WriteString("SeaBIOS\x00VMRU\x00VMRUN\x01") // noise that almost begins like the mark
	w := frameWriter{w: &buf}
	must(t, w.begin())
	big := strings.Repeat("x", frameLimit+1)
	must(t, w.send(frameStdout, []byte(big)))
	must(t, w.send(frameKernel, nil))
	must(t, w.exit(-1))

	r := frameReader{bufio.NewReader(&buf)}
	must(t, r.sync())
	type frame struct {
		Kind    byte
		Payload string
	}
	var got []frame
	for {
		kind, payload, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		got = append(got, frame{kind, string(payload)})
	}
	want := []frame{{'O', big[:frameLimit]}, {'O', "x"}, {'K', ""}, {'X', "\xff\xff\xff\xff"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	if code, err := exitCode([]byte(want[3].Payload)); code != -1 || err != nil {
		t.Errorf("exit code is %d, %v", code, err)
	}
	if _, err := exitCode([]byte{1}); err == nil {
		t.Error("a short exit code was accepted")
	}
}

func TestBrokenWireIsAnError(t *testing.T) {
	t.Parallel()
	for name, bytesOnWire := range map[string]string{
		"header cut":     "O\x01",
		"payload cut":    "O\x05\x00\x00\x00abc",
		"absurd length":  "O\xff\xff\xff\xff",
		"kernel printed": "[ 1.0] BUG: something",
	} {
		r := frameReader{bufio.NewReader(strings.NewReader(bytesOnWire))}
		if _, _, err := r.next(); err == nil || errors.Is(err, io.EOF) && err.Error() == "EOF" {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if err := (frameReader{bufio.NewReader(strings.NewReader("no mark"))}).sync(); !errors.Is(err, io.EOF) {
		t.Errorf("synchronising without a mark: %v", err)
	}
}

func TestFaultsAreFoundInTheKernelLog(t *testing.T) {
	t.Parallel()
	tests := []struct {
		line  string
		fault bool
	}{
		{"BUG: kernel NULL pointer dereference, address: 0000000000000008", true},
		{"watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [kworker/0:1:9]", true},
		{"WARNING: CPU: 1 PID: 77 at net/core/dev.c:10 f+0x1/0x2", true},
		{"WARNING: possible circular locking dependency detected", true},
		{"Oops: 0002 [#1] PREEMPT SMP NOPTI", true},
		{"general protection fault, probably for non-canonical address", true},
		{"kernel BUG at mm/slub.c:1!", true},
		{"Kernel panic - not syncing: Attempted to kill init!", true},
		{"refcount_t: underflow; use-after-free.", true},
		{"unregister_netdevice: waiting for lo to become free. Usage count = 2", true},
		{"mtrr: your CPUs had inconsistent MTRRdefType settings", false},
		{"DEBUG: nothing", false},
		{"dummy: loading out-of-tree module taints kernel.", false},
	}
	for _, tt := range tests {
		var k kernelLog
		k.add("before")
		k.add(tt.line)
		k.add("Call Trace:")
		if got := len(k.faults) > 0; got != tt.fault {
			t.Errorf("%q: fault is %v, want %v", tt.line, got, tt.fault)
		}
		if tt.fault && !cmp.Equal(k.faults, []string{tt.line, "Call Trace:"}) {
			t.Errorf("%q: kept %q", tt.line, k.faults)
		}
	}
	var long kernelLog
	for range 2 * faultContext {
		long.add("WARNING: CPU: 1")
	}
	for range 2 * faultContext {
		long.add("later")
	}
	if got := len(long.faults); got != 3*faultContext {
		t.Errorf("kept %d lines, want every fault and %d that follow the last", got, faultContext)
	}
}

func TestOnlyTheKernelsOwnWarningsCount(t *testing.T) {
	t.Parallel()
	tests := []struct{ record, want string }{
		{"4,1,100,-;WARNING: CPU: 0\n SUBSYSTEM=net\n", "WARNING: CPU: 0"},
		{"0,1,100,-,caller=T1;panic; with a semicolon", "panic; with a semicolon"},
		{"6,1,100,-;informational", ""},
		{"12,1,100,-;BUG: written by user space with facility 1", ""},
		{"-4,1,100,-;negative", ""},
		{"no separator", ""},
		{"x,1;not a number", ""},
	}
	for _, tt := range tests {
		got, ok := parseKmsg(tt.record)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q: got %q, %v", tt.record, got, ok)
		}
	}
}

func TestTaintNamesFaults(t *testing.T) {
	t.Parallel()
	const outOfTree, unsigned = 1 << 12, 1 << 13
	if got := taintFaults(outOfTree | unsigned); got != nil {
		t.Errorf("loading a module counts as %q", got)
	}
	if got := taintFaults(1<<9 | 1<<7); !cmp.Equal(got, []string{"kernel died (Oops or BUG)", "kernel warning"}) {
		t.Errorf("got %q", got)
	}
}
