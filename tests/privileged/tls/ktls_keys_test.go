package tls

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
)

// secretPart is how many bytes of a secret are looked for: any that is read at all begins with the IV, key or salt.
const secretPart = 4

// TestKernelTLSKeysAreNotRead looks for the keys that a program has given the kernel in all that the kernel programs have
// written: rings, maps, and what is stored with the program's tasks and sockets.
func TestKernelTLSKeysAreNotRead(t *testing.T) {
	onOneStep(t, func(t *testing.T, step event.Step) {
		s := newSceneOf(t, step, probes.Config{TellConnect: true})
		k := s.sink(t)
		c := s.commanded(t, k.at)
		s.swap(t, "Enforce", plain)
		handMade(t, s, k, c)
		written := s.written(t, c)
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(written, []byte(exe)) {
			t.Fatalf("the path of the program is not in the %d bytes that were looked at, so nothing else would be found", len(written))
		}
		for i, first := range secrets() {
			if at := bytes.Index(written, secret(first, secretPart)); at >= 0 {
				t.Errorf("secret %d of kTLS is in what the kernel programs have written, byte %d of %d", i, at, len(written))
			}
		}
	})
}

// written is all that the kernel programs have written.
func (s *scene) written(t *testing.T, c *commanded) (all []byte) {
	t.Helper()
	pins, err := filepath.Glob(filepath.Join(s.pins, "*"))
	if err != nil {
		t.Fatal(err)
	}
	fds := c.handles(t)
	for _, pin := range pins {
		m, err := ebpf.LoadPinnedMap(pin, nil)
		if err != nil {
			continue // a link, or a directory of such
		}
		contents, err := contentsOf(m, fds)
		if err = errors.Join(err, m.Close()); err != nil {
			t.Fatalf("reading %s: %v", pin, err)
		}
		all = append(all, contents...)
	}
	return all
}

// handles are descriptors of a client: of its process, and of all that it may have open.
type handles struct {
	process int
	files   []int
}

func (c *commanded) handles(t *testing.T) (h handles) {
	t.Helper()
	var err error
	if h.process, err = unix.PidfdOpen(c.pid, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(h.process) }) // a handle
	for fd := range 64 {
		file, err := unix.PidfdGetfd(h.process, fd, 0)
		if err != nil {
			continue // not open
		}
		t.Cleanup(func() { _ = unix.Close(file) }) // a handle
		h.files = append(h.files, file)
	}
	return h
}

// contentsOf reads a map: of what is stored with tasks and sockets, what belongs to fds.
func contentsOf(m *ebpf.Map, fds handles) ([]byte, error) {
	switch m.Type() {
	case ebpf.RingBuf:
		return ringContents(m)
	case ebpf.TaskStorage:
		return storedWith(m, fds.process)
	case ebpf.SkStorage:
		return storedWith(m, fds.files...)
	case ebpf.ArrayOfMaps, ebpf.HashOfMaps:
		return nil, nil // tables of the policy, which kernel programs cannot write
	default:
		return entries(m)
	}
}

// storedWith reads what is stored with what descriptors are of; those of other things have nothing.
func storedWith(m *ebpf.Map, fds ...int) (all []byte, err error) {
	for _, fd := range fds {
		value, err := m.LookupBytes(uint32(fd))
		if err == nil {
			all = append(all, value...)
		}
	}
	return all, nil
}

func entries(m *ebpf.Map) (all []byte, err error) {
	for key, err := m.NextKeyBytes(nil); key != nil || err != nil; key, err = m.NextKeyBytes(key) {
		if err != nil {
			return nil, err
		}
		value, err := m.LookupBytes(key)
		if err != nil {
			return nil, err
		}
		all = append(append(all, key...), value...) // of one that has gone meanwhile nothing
	}
	return all, nil
}

// ringContents is the memory of a ring, in which records stay when they have been read.
func ringContents(m *ebpf.Map) ([]byte, error) {
	page := os.Getpagesize()
	b, err := unix.Mmap(m.FD(), int64(page), page+int(m.MaxEntries()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(b), unix.Munmap(b)
}
