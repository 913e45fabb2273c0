package bpfobj

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/sallyport/sallyport/probes/internal/attach"
)

// ErrIncompatible means that the pins were made by an agent whose maps mean something else.
var ErrIncompatible = errors.New("pinned maps are of an incompatible version")

// Sizes are the sizes of the maps that the operator may choose. A zero keeps the built-in size.
type Sizes struct {
	Flows      uint32 // entries of flow_by_tuple
	Containers uint32 // entries of container_by_cgroup and netns_by_cookie
	AlertRing  uint32 // bytes, a power of two and a multiple of the page size
	FlowRing   uint32 // bytes, the same
}

// Maps are the maps that all programs share, pinned in one directory of a BPF file system.
type Maps struct {
	byName map[string]*ebpf.Map
	fresh  bool
	load   Loader
	types  atomic.Pointer[btf.Cache] // the kernel's, decoded; nil: each load decodes them for itself

	control sync.Mutex  // held while the control entry is changed
	written *ABIControl // as this agent has written it; nil: not yet

	dir   string
	seals map[string]*attach.Seal // of the pins, by name
	look  attach.Dir
}

// Loader loads a collection into the kernel. It is given what it needs, and may hand out what it has loaded before from
// the same collection with the same maps in place of the collection's own. Whoever asks closes what it gets.
type Loader func(*ebpf.CollectionSpec, ebpf.CollectionOptions) (*ebpf.Collection, error)

// OpenMaps opens the maps pinned in dir, and makes and pins those that are missing. It fails with
// ErrIncompatible when a pinned map has another shape or another ABI version, and changes nothing then.
func OpenMaps(dir string, sizes Sizes, load Loader) (*Maps, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making pin directory: %w", err)
	}
	spec, err := LoadABI()
	if err != nil {
		return nil, fmt.Errorf("reading map definitions: %w", err)
	}
	sizes.apply(spec.Maps)
	revision, err := checkABI(dir)
	if err != nil {
		return nil, err
	}
	m := &Maps{byName: map[string]*ebpf.Map{}, fresh: revision == 0, load: load}
	m.types.Store(btf.NewCache())
	for name, ms := range spec.Maps {
		if strings.HasPrefix(name, ".") {
			continue // globals: they only carry types
		}
		loaded, err := ebpf.NewMapWithOptions(ms, ebpf.MapOptions{PinPath: dir})
		if errors.Is(err, ebpf.ErrMapIncompatible) {
			return nil, errors.Join(fmt.Errorf("map %s: %w: %w", name, ErrIncompatible, err), m.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening map %s: %w", name, err), m.Close())
		}
		m.byName[name] = loaded
	}
	if err := m.seal(dir); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// apply puts the chosen sizes into the specs.
func (s Sizes) apply(specs map[string]*ebpf.MapSpec) {
	set := func(name string, size uint32) {
		if size != 0 {
			specs[name].MaxEntries = size
		}
	}
	set("flow_by_tuple", s.Flows)
	set("container_by_cgroup", s.Containers)
	set("netns_by_cookie", s.Containers)
	set("gate_by_ifindex", s.Containers)
	set("alerts", s.AlertRing)
	set("flows", s.FlowRing)
}

// checkABI compares the version that the pins were made with. It returns the revision that they have in force, 0 for
// none: there are no pins, or the agent that made them died before it had tables in force.
func checkABI(dir string) (revision uint64, err error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, "controls"), nil)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("opening pinned control map: %w", err)
	}
	defer func() { _ = m.Close() }() // read only: nothing is lost
	var c ABIControl
	if err := m.Lookup(uint32(0), &c); err != nil {
		return 0, fmt.Errorf("%w: control map: %w", ErrIncompatible, err)
	}
	// 0: it died before it wrote the version.
	if c.Abi != 0 && c.Abi != uint32(ABILimitsABI_VERSION) {
		return 0, fmt.Errorf("%w: pins have ABI %d, this agent %d", ErrIncompatible, c.Abi, ABILimitsABI_VERSION)
	}
	return c.Revision, nil
}

// Fresh reports whether no tables are in force yet.
func (m *Maps) Fresh() bool { return m.fresh }

// Map returns a map by its name in bpf/. It panics on a name that is not there, which is a
// programmer's error.
func (m *Maps) Map(name string) *ebpf.Map {
	loaded, ok := m.byName[name]
	if !ok {
		panic("no map " + name)
	}
	return loaded
}

// Load loads the named programs of spec, or all of them when none is named, with the shared maps in
// place of their own definitions. Maps that only these programs use are made anew. The caller closes
// the collection.
func (m *Maps) Load(spec *ebpf.CollectionSpec, programs ...string) (*ebpf.Collection, error) {
	wanted := *spec
	if len(programs) > 0 {
		wanted.Programs = map[string]*ebpf.ProgramSpec{}
		for _, name := range programs {
			wanted.Programs[name] = spec.Programs[name]
		}
	}
	spec = wanted.Copy()
	replace := map[string]*ebpf.Map{}
	for name, ms := range spec.Maps {
		shared, ok := m.byName[name]
		if !ok {
			continue
		}
		ms.MaxEntries = shared.MaxEntries()
		ms.Pinning = ebpf.PinNone
		replace[name] = shared
	}
	coll, err := m.load(spec, ebpf.CollectionOptions{MapReplacements: replace, Cache: m.types.Load()})
	if err != nil {
		return nil, fmt.Errorf("loading programs: %w", err)
	}
	return coll, nil
}

// ForgetTypes lets the kernel's types go, which are megabytes and only of use to further loads.
func (m *Maps) ForgetTypes() { m.types.Store(nil) }

// Control reads the control entry.
func (m *Maps) Control() (ABIControl, error) {
	var c ABIControl
	if err := m.Map("controls").Lookup(uint32(0), &c); err != nil {
		return c, fmt.Errorf("reading control map: %w", err)
	}
	return c, nil
}

// UpdateControl changes the control entry. Only one agent runs, and it does so by this alone, so nobody
// writes between its read and its write; what somebody else has written all the same is lost.
func (m *Maps) UpdateControl(change func(*ABIControl)) error {
	m.control.Lock()
	defer m.control.Unlock()
	c, err := m.Control()
	if err != nil {
		return err
	}
	if m.written != nil {
		c = *m.written
	}
	change(&c)
	if err := m.putControl(&c); err != nil {
		return err
	}
	m.written = &c
	return nil
}

// Close closes the maps; what is pinned stays.
func (m *Maps) Close() error {
	var errs []error
	for name, loaded := range m.byName {
		if err := loaded.Close(); err != nil {
			errs = append(errs, fmt.Errorf("closing map %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
