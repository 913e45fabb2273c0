package attached

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// empty makes a map of ours as it was when it was made, but for what goes by itself or cannot be seen: what is stored with
// tasks and sockets is freed with them; tables that are in no revision's slot are looked at by nobody; the ids that were
// given are given to nobody else.
func empty(name string, m *ebpf.Map) error {
	switch m.Type() {
	case ebpf.Hash, ebpf.LRUHash:
		return deleteAll(m)
	case ebpf.Array:
		if name == "last_id" {
			return nil
		}
		return zero(m, make([]byte, m.ValueSize()))
	case ebpf.PerCPUArray:
		cpus, err := ebpf.PossibleCPU()
		if err != nil {
			return err
		}
		values := make([][]byte, cpus)
		for i := range values {
			values[i] = make([]byte, m.ValueSize())
		}
		return zero(m, values)
	case ebpf.RingBuf:
		return drain(m)
	case ebpf.TaskStorage, ebpf.SkStorage, ebpf.ArrayOfMaps:
		return nil
	default:
		return fmt.Errorf("nobody has said how maps of type %s are emptied", m.Type())
	}
}

func deleteAll(m *ebpf.Map) error {
	var keys [][]byte
	for key, err := m.NextKeyBytes(nil); key != nil || err != nil; key, err = m.NextKeyBytes(key) {
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	for _, key := range keys {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}

func zero(m *ebpf.Map, value any) error {
	for i := range m.MaxEntries() {
		if err := m.Put(i, value); err != nil {
			return err
		}
	}
	return nil
}

// drain reads what nobody has read. Nothing is attached that would write more.
func drain(m *ebpf.Map) error {
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read only
	r.SetDeadline(time.Now())
	var rec ringbuf.Record
	for err == nil {
		err = r.ReadInto(&rec)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}
