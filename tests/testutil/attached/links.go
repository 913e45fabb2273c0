package attached

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
)

// Anew lets go of what the tests before have left attached. It is for tests that attach maps and programs of their own, and for
// those in which something goes on before anything is attached; it comes before that.
func Anew(t testing.TB) {
	t.Helper()
	letGo(t, nil)
}

// letGo does it for all shelves but one. Those that a test has, have none.
func letGo(t testing.TB, but *shelf) {
	t.Helper()
	for _, s := range kept.all() {
		if s == but {
			continue
		}
		if err := s.letGo(); err != nil {
			t.Fatal("detaching what the tests before have attached: ", err)
		}
	}
}

// stays says of a pinned link whether it is left attached for the next test: those of JUDGE at functions of the kernel, which
// waits for a tenth of a second for each that is detached, of one after the other. What is attached to a cgroup goes with it.
func (s *shelf) stays(l link.Link) bool {
	info, err := l.Info()
	if err != nil || info.Type != link.TracingType && info.Type != link.PerfEventType {
		return false
	}
	_, ours := s.ids[info.Program]
	return ours
}

// take takes over links from the pins of a test that has ended. Nobody gets a label any more, and no tables are in force: who still
// has one is denied all, until it ends with the test's cgroups.
func (s *shelf) take(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(filepath.Join(dir, "links"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := zero(s.maps["controls"], make([]byte, s.maps["controls"].ValueSize())); err != nil {
		return fmt.Errorf("putting no tables in force: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "judge_") {
			continue
		}
		l, err := link.LoadPinnedLink(filepath.Join(dir, "links", e.Name()), nil)
		if err != nil {
			return fmt.Errorf("taking link %s: %w", e.Name(), err)
		}
		if !s.stays(l) {
			err = l.Close()
		} else if err = l.Unpin(); err == nil {
			s.links[e.Name()] = l
		}
		if err != nil {
			return fmt.Errorf("taking link %s: %w", e.Name(), err)
		}
	}
	return nil
}

// give pins the links in dir, where the agent of the next test finds and adopts those it wants, and detaches the others.
func (s *shelf) give(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir = filepath.Join(dir, "links")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, l := range s.links {
		delete(s.links, name)
		if err := errors.Join(l.Pin(filepath.Join(dir, name)), l.Close()); err != nil {
			return fmt.Errorf("pinning link %s: %w", name, err)
		}
	}
	return nil
}

// letGo detaches the links: those first that deny what others have not judged.
func (s *shelf) letGo() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.links {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(b, a) }) // modret comes before fentry
	var errs []error
	for _, name := range names {
		errs = append(errs, s.links[name].Close())
		delete(s.links, name)
	}
	return errors.Join(errs...)
}
