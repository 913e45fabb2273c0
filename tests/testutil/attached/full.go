package attached

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// Fill puts entries of zeros into a hash map until it takes no more, and returns what takes them out again. Their keys are
// nobody's: numbers at the end, ones before.
func Fill(t testing.TB, m *ebpf.Map) (free func()) {
	t.Helper()
	var keys [][]byte
	for value := make([]byte, m.ValueSize()); ; {
		key := make([]byte, m.KeySize())
		for i := range key {
			key[i] = 0xff
		}
		binary.BigEndian.PutUint32(key[len(key)-4:], ^uint32(len(keys)))
		err := m.Update(key, value, ebpf.UpdateNoExist)
		if errors.Is(err, unix.E2BIG) {
			break
		}
		if err != nil {
			t.Fatalf("filling %s, entry %d: %v", m, len(keys), err)
		}
		keys = append(keys, key)
	}
	return func() {
		for _, key := range keys {
			if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				t.Errorf("emptying %s: %v", m, err)
			}
		}
	}
}

// Own returns a map by its name that only the program of a pinned link, and what was loaded with it, has.
func Own(t testing.TB, node *pod.Node, pin, name string) *ebpf.Map {
	t.Helper()
	m, err := own(filepath.Join(node.BPFFS, "sallyport", "links", pin), name)
	if err != nil {
		t.Fatalf("map %s of %s: %v", name, pin, err)
	}
	t.Cleanup(func() { _ = m.Close() }) // a handle
	return m
}

func own(pin, name string) (*ebpf.Map, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }() // a handle
	info, err := l.Info()
	if err != nil {
		return nil, err
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close() }() // a handle
	about, err := p.Info()
	if err != nil {
		return nil, err
	}
	ids, _ := about.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, err
		}
		info, err := m.Info()
		if err == nil && info.Name == name[:min(len(name), unix.BPF_OBJ_NAME_LEN-1)] {
			return m, nil
		}
		if err = errors.Join(err, m.Close()); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("it has none among %d", len(ids))
}

// Busy writes a word of each value of a map of rooms, on each CPU, which says that somebody is at work there, and returns
// what takes that back.
func Busy(t testing.TB, m *ebpf.Map, offset int) (free func()) {
	t.Helper()
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	set := func(word uint32) {
		for place := range m.MaxEntries() {
			values := make([][]byte, cpus)
			for i := range values {
				values[i] = make([]byte, m.ValueSize())
				binary.NativeEndian.PutUint32(values[i][offset:], word)
			}
			if err := m.Put(place, values); err != nil {
				t.Fatalf("writing %s: %v", m, err)
			}
		}
	}
	set(1)
	return func() { set(0) }
}

// Counted waits until a site's errors are told.
func (r *Recorder) Counted(t testing.TB, site string) {
	t.Helper()
	r.Wait(t, "that "+site+" was counted", func(e event.Event) bool { return e.Kind == event.KindLost && e.Site == site })
}
