package attached

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/tests/testutil"
)

// shelf keeps what a process of tests has loaded: the verifier needs many seconds for all programs where a machine is
// emulated, and finds the same for each test. Programs are bound to their maps, so those are kept as well, and so are links that
// the kernel detaches slowly.
type shelf struct {
	taken sync.Mutex // while a test has it
	mu    sync.Mutex
	types *btf.Cache
	maps  map[string]*ebpf.Map      // all that are pinned, by name
	loads map[string]loaded         // by keyOf
	ids   map[ebpf.ProgramID]string // names of what was loaded
	links map[string]link.Link      // between two tests, by the names of their pins: see stays
}

// loaded is what came of loading a collection.
type loaded struct {
	programs map[string]*ebpf.Program
	err      error
}

// shelves are those of a process, which has one kernel, by the sizes of their maps.
type shelves struct {
	mu      sync.Mutex
	types   *btf.Cache
	bySizes map[probes.Sizes]*shelf
}

var kept = &shelves{types: btf.NewCache(), bySizes: map[probes.Sizes]*shelf{}} //nolint:gochecknoglobals // a process has one kernel

func (s *shelves) of(sizes probes.Sizes) *shelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bySizes[sizes] == nil {
		s.bySizes[sizes] = &shelf{types: s.types, loads: map[string]loaded{}, ids: map[ebpf.ProgramID]string{}, links: map[string]link.Link{}}
	}
	return s.bySizes[sizes]
}

func (s *shelves) all() []*shelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.bySizes))
}

// Reuse returns cfg so that what is opened with it has the maps of the tests before, emptied as empty says, and programs
// that were verified for them. What stays attached from one test to the next, with no tables in force, is adopted (see Anew); all
// else is attached anew, and at the end of the test not attached any more. What finds pins, or is opened beside another, is left as
// it is: it gets maps and programs of its own.
func Reuse(t testing.TB, cfg probes.Config) probes.Config {
	t.Helper()
	dir := filepath.Join(cfg.BPFFS, cfg.PinDir)
	if _, err := os.Stat(dir); err == nil {
		return cfg
	}
	s := kept.of(cfg.Sizes)
	if !s.taken.TryLock() {
		Detach(t, cfg)
		return cfg
	}
	t.Cleanup(s.taken.Unlock)
	letGo(t, s)
	if err := s.pin(cfg, dir); err != nil {
		t.Fatal("taking the maps of the tests before: ", err)
	}
	t.Cleanup(func() { testutil.Eventually(t, "the end of the programs' links", s.unlinked) })
	Detach(t, cfg)
	t.Cleanup(func() {
		if t.Failed() {
			return // nobody knows what it has left
		}
		if err := s.take(dir); err != nil {
			t.Error("keeping links for the next test: ", err)
		}
	})
	if err := s.give(dir); err != nil {
		t.Fatal("taking the links of the test before: ", err)
	}
	cfg.Load = s.load
	return cfg
}

// Detach removes what is pinned at the end of the test. A BPF file system that is only unmounted lets its links go in any order,
// and meanwhile fmod_ret denies to every program of the machine what fentry does not judge any more.
func Detach(t testing.TB, cfg probes.Config) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := probes.Cleanup(cfg.BPFFS, cfg.PinDir); err != nil {
			t.Error(err)
		}
	})
}

// Free gives back what was kept, when all tests are over.
func Free() error {
	var errs []error
	for _, s := range kept.all() {
		errs = append(errs, s.free())
	}
	return errors.Join(errs...)
}

func (s *shelf) free() error {
	errs := []error{s.letGo()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.maps {
		errs = append(errs, m.Close())
	}
	for _, l := range s.loads {
		for _, p := range l.programs {
			errs = append(errs, p.Close())
		}
	}
	s.maps, s.loads = nil, map[string]loaded{}
	return errors.Join(errs...)
}

// pin empties the maps and pins them in dir. The first time it makes them.
func (s *shelf) pin(cfg probes.Config, dir string) error {
	if s.maps == nil {
		return s.make(cfg, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, m := range s.maps {
		if err := empty(name, m); err != nil {
			return fmt.Errorf("emptying map %s: %w", name, err)
		}
		pinned, err := m.Clone()
		if err != nil {
			return err
		}
		if err := errors.Join(pinned.Pin(filepath.Join(dir, name)), pinned.Close()); err != nil {
			return fmt.Errorf("pinning map %s: %w", name, err)
		}
	}
	return nil
}

// make makes the maps, pinned in dir, as the agent does.
func (s *shelf) make(cfg probes.Config, dir string) error {
	k, err := probes.Open(cfg)
	if err != nil {
		return err
	}
	if err := k.Close(); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	s.maps = map[string]*ebpf.Map{}
	for _, e := range entries {
		if e.IsDir() {
			continue // of links
		}
		pinned, err := ebpf.LoadPinnedMap(filepath.Join(dir, e.Name()), nil)
		if err != nil {
			return err
		}
		if s.maps[e.Name()], err = pinned.Clone(); err != nil { // which knows of no pin
			return err
		}
		if err := errors.Join(pinned.Close(), empty(e.Name(), s.maps[e.Name()])); err != nil {
			return err
		}
	}
	return nil
}

// load is a loader that asks the kernel only the first time.
func (s *shelf) load(spec *ebpf.CollectionSpec, opts ebpf.CollectionOptions) (*ebpf.Collection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	opts.Cache = s.types
	key, ok := s.keyOf(spec, opts)
	if !ok {
		return ebpf.NewCollectionWithOptions(spec, opts)
	}
	l, ok := s.loads[key]
	if !ok {
		coll, err := ebpf.NewCollectionWithOptions(spec, opts)
		if l.err = err; err == nil {
			l.programs, err = clones(coll.Programs)
			err = errors.Join(err, s.name(l.programs))
			coll.Close()
		}
		if err != nil && l.err == nil {
			return nil, err
		}
		s.loads[key] = l
	}
	if l.err != nil {
		return nil, l.err // the kernel has not learned to load it
	}
	programs, err := clones(l.programs)
	return &ebpf.Collection{Programs: programs}, err
}

// name remembers programs by their numbers in the kernel.
func (s *shelf) name(programs map[string]*ebpf.Program) error {
	for name, p := range programs {
		info, err := p.Info()
		if err != nil {
			return err
		}
		if id, ok := info.ID(); ok {
			s.ids[id] = name
		}
	}
	return nil
}

// keyOf tells collections apart: by their programs and their constants. What has variables, or maps that are not those
// that are kept, is loaded for the test alone.
func (s *shelf) keyOf(spec *ebpf.CollectionSpec, opts ebpf.CollectionOptions) (string, bool) {
	parts := slices.Sorted(maps.Keys(spec.Programs))
	for _, name := range slices.Sorted(maps.Keys(spec.Variables)) {
		v := spec.Variables[name]
		if !v.Constant() {
			return "", false
		}
		parts = append(parts, fmt.Sprintf("%s=%x", name, v.Value))
	}
	return strings.Join(parts, " "), same(opts.MapReplacements["controls"], s.maps["controls"])
}

// same says whether two handles are of one map.
func same(a, b *ebpf.Map) bool {
	if a == nil || b == nil {
		return false
	}
	ia, errA := a.Info()
	ib, errB := b.Info()
	if errA != nil || errB != nil {
		return false
	}
	idA, okA := ia.ID()
	idB, okB := ib.ID()
	return okA && okB && idA == idB
}

func clones(programs map[string]*ebpf.Program) (map[string]*ebpf.Program, error) {
	out := map[string]*ebpf.Program{}
	for name, p := range programs {
		var err error
		if out[name], err = p.Clone(); err != nil {
			return nil, fmt.Errorf("cloning program %s: %w", name, err)
		}
	}
	return out, nil
}

// unlinked fails while one of the programs is attached, but by a link that stays. The kernel frees a link some time after its last pin is gone, and
// a program of another step must not judge what the next test does.
func (s *shelf) unlinked() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	stay := map[link.ID]bool{}
	for _, l := range s.links {
		info, err := l.Info()
		if err != nil {
			return err
		}
		stay[info.ID] = true
	}
	links := link.Iterator{}
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err != nil {
			return err
		}
		if name, ok := s.ids[info.Program]; ok && !stay[info.ID] {
			return fmt.Errorf("%s is still attached", name)
		}
	}
	return links.Err()
}
