package tls

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/read"
	"github.com/sallyport/sallyport/tests/testutil"
)

// pinned lists the pinned links of taps.
func (s *scene) pinned(t *testing.T) []string {
	t.Helper()
	names, err := s.kernel.Pins().Names()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "read_tls_") })
}

// Libraries are tapped where containers look for them, before a process has them mapped; a file that two containers
// execute keeps its taps until neither needs them; what a former agent left stays until nobody has asked for it.
func TestTapsOfContainers(t *testing.T) {
	testutil.RequireRoot(t)
	s := newScene(t, event.StepCgroup)
	const a, b = 1, 2
	self := uint32(os.Getpid())
	if err := errors.Join(s.taps.CoverLibraries(a, self), s.taps.Cover(b, self)); err != nil {
		t.Fatal(err)
	}
	libraries := s.taps.Files(a)
	for _, want := range []read.Library{read.OpenSSL, read.GnuTLS} {
		if !slices.ContainsFunc(libraries, func(f read.File) bool { return f.Library == want }) {
			t.Errorf("%s is not among %+v", want, libraries)
		}
	}
	if files := s.taps.Files(b); len(files) != 1 || files[0].Library != read.Go {
		t.Errorf("the test's own program has %+v", files)
	}
	first := s.pinned(t)
	if len(first) == 0 {
		t.Fatal("nothing is pinned")
	}

	// Another agent finds them in place.
	next, err := read.OpenTaps(s.kernel, "/proc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = next.Close() }) // handles only
	p := programs()[0]
	c := s.start(t, p.args(s)...)
	testutil.Eventually(t, "its library", func() error {
		if err := next.Cover(b, uint32(c.Process.Process.Pid)); err != nil {
			return err
		}
		if files := next.Files(b); len(files) != 1 || files[0].Library != read.OpenSSL {
			return fmt.Errorf("it has %+v", files)
		}
		return nil
	})
	if now := s.pinned(t); !slices.Equal(now, first) {
		t.Errorf("what was in place is not taken over: %d pins, then %d", len(first), len(now))
	}
	if err := next.Sweep(); err != nil {
		t.Fatal(err)
	}
	swept := s.pinned(t)
	if len(swept) == 0 || len(swept) >= len(first) {
		t.Errorf("of %d pins %d are left, where OpenSSL alone is needed", len(first), len(swept))
	}

	// Two containers, then one, then none.
	if err := next.Cover(a, uint32(c.Process.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		wanted uint64
		left   int
	}{{b, len(swept)}, {0, 0}} {
		if err := next.Retain(func(id uint64) bool { return id == step.wanted }); err != nil {
			t.Fatal(err)
		}
		if now := s.pinned(t); len(now) != step.left {
			t.Errorf("with container %d alone %d pins are left, not %d", step.wanted, len(now), step.left)
		}
	}
	if err := next.Cover(a, uint32(c.Process.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if err := read.Remove(s.kernel); err != nil {
		t.Fatal(err)
	}
	if now := s.pinned(t); len(now) != 0 {
		t.Errorf("removed, and %d pins are left", len(now))
	}
}
