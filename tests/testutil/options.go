package testutil

import (
	"bytes"
	"os"
	"strconv"
	"testing"
)

// LimitOptions bounds what the kernel keeps with one socket of the namespace beside what it sends and receives, in bytes, and returns
// what ends that. Linux before 6.7 has one bound for all namespaces, which is this one's then.
func (n *NetNS) LimitOptions(t testing.TB, limit int) (free func()) {
	t.Helper()
	const file = "/proc/sys/net/core/optmem_max"
	within := n.Try
	if within(func() error { _, err := os.Stat(file); return err }) != nil {
		within = func(do func() error) error { return do() }
	}
	do := func(f func() error) {
		t.Helper()
		if err := within(f); err != nil {
			t.Fatal("bounding what is kept with sockets: ", err)
		}
	}
	var was []byte
	do(func() (err error) { was, err = os.ReadFile(file); return err })
	free = func() { do(func() error { return os.WriteFile(file, bytes.TrimSpace(was), 0) }) }
	t.Cleanup(free)
	do(func() error { return os.WriteFile(file, strconv.AppendInt(nil, int64(limit), 10), 0) })
	return free
}
