package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestCleanupRemovesEverything cleans up after an agent that was killed, while the main program connects.
func TestCleanupRemovesEverything(t *testing.T) {
	s := newScene(t)
	s.agent.policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, "web")
	main := func() string { return web.Log(t) }
	more(t, "the main program connects", main, "loop-tcp: ok=200 ", 1)
	maps := pinnedMaps(t, s.agent.path("bpf/sallyport"))
	programs := programsWith(t, maps)
	for _, word := range []string{"label_", "judge_", "gate_skb", "gate_tc"} {
		if !slices.ContainsFunc(programs, func(name string) bool { return strings.HasPrefix(name, word) }) {
			t.Errorf("no program %s is there to be removed: %q", word, programs)
		}
	}
	s.agent.Kill(t)
	s.wantShell(t, web, "EPERM")
	s.forbidden.ExpectNone(t)

	r := s.agent.run(t, "run", "--cleanup", "--config", s.agent.path("config.yaml"))
	if r.Code != 0 || !strings.HasPrefix(r.Stdout, "removed ") {
		t.Fatalf("cleanup ended with %d: %q %q", r.Code, r.Stdout, r.Stderr)
	}
	if _, err := os.Stat(s.agent.path("bpf/sallyport")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pins are there: %v", err)
	}
	testutil.Eventually(t, "the programs and maps are gone", func() error { // the kernel frees them a little later
		if left := programsWith(t, maps); len(left) > 0 {
			return fmt.Errorf("programs %q are left", left)
		}
		for id := range maps {
			if m, err := ebpf.NewMapFromID(id); err == nil {
				return errors.Join(fmt.Errorf("map %d is left", id), m.Close())
			}
		}
		return nil
	})
	s.wantShell(t, web, "ok")
	more(t, "the main program goes on", main, "loop-tcp: ok=200 ", 3)
	for line := range strings.Lines(main()) {
		if line != "loop-tcp: ok=200 eperm=0 other=0\n" {
			t.Errorf("an allowed connect failed: %q", line)
		}
	}
	again := s.agent.run(t, "run", "--cleanup", "--config", s.agent.path("config.yaml"))
	if again.Code != 0 || !strings.HasPrefix(again.Stdout, "removed 0 pins") {
		t.Errorf("cleaning up again ended with %d: %q %q", again.Code, again.Stdout, again.Stderr)
	}
}

// pinnedMaps returns the ids of the maps pinned in a directory.
func pinnedMaps(t *testing.T, dir string) map[ebpf.MapID]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[ebpf.MapID]bool{}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, e.Name()), nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := info.ID(); ok {
			ids[id] = true
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(ids) == 0 {
		t.Fatalf("no map is pinned in %s", dir)
	}
	return ids
}

// programsWith lists the programs in the kernel that use one of the maps.
func programsWith(t *testing.T, maps map[ebpf.MapID]bool) (names []string) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		used, _ := info.MapIDs()
		if slices.ContainsFunc(used, func(id ebpf.MapID) bool { return maps[id] }) {
			names = append(names, info.Name)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
