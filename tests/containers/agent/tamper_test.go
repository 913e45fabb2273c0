package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/sallyport/sallyport/tests/testutil"
)

// TestTamperingIsRepairedAndTold takes away what enforces under an agent that runs: it is back soon, a critical alert says
// so, a metric counts it, and a shell reaches nothing when it is.
func TestTamperingIsRepairedAndTold(t *testing.T) {
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.conf.metrics = metricsAddress
	s.agent.Start(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, "web")
	s.wantShell(t, web, "EPERM")
	pins := s.agent.Path("bpf/sallyport")
	before := s.tree(t, pins)
	for _, k := range []struct {
		name string
		do   func() error
		back func() error
		told string
	}{
		{"wiped pins", func() error { return os.RemoveAll(pins) }, func() error {
			if now := s.tree(t, pins); now != before {
				return fmt.Errorf("the pins are\n%s\nand were\n%s", now, before)
			}
			return nil
		}, "pin "},
		{"a detached gate", func() error { return s.detach(t, pins) }, func() error { return s.gated(t, pins) }, "gate_tc_to_pod"},
	} {
		if err := k.do(); err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		begin := time.Now()
		testutil.Eventually(t, k.name+": repaired", k.back)
		t.Logf("%s: repaired after %v", k.name, time.Since(begin).Round(time.Millisecond))
		testutil.Eventually(t, k.name+": told", func() error {
			for _, e := range s.agent.Observe(t, "--kind", "tamper") {
				if strings.Contains(e.Message, k.told) && e.Severity == "critical" && !strings.Contains(e.Message, "could not") {
					return nil
				}
			}
			return errors.New("no such event")
		})
		s.wantShell(t, web, "EPERM")
	}
	page := string(s.page(t))
	for _, want := range []string{`sallyport_guard_tampering_total{restored="true",thing="pin"}`, `sallyport_tell_events_total{kind="tamper"}`} {
		if !strings.Contains(page, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	alerts, err := os.ReadFile(s.agent.Path("alerts.jsonl"))
	if err != nil || !strings.Contains(string(alerts), `"kind":"tamper","severity":"critical"`) {
		t.Errorf("the alerts do not say it: %v", err)
	}
	s.forbidden.ExpectNone(t)
	s.agent.Kill(t)
	s.wantShell(t, web, "EPERM") // by what was pinned again
	s.agent.Start(t)
	if !s.agent.Status(t).Adopted {
		t.Error("what was pinned again was not adopted")
	}
}

// tree lists what is below a directory.
func (s *scene) tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		fmt.Fprintln(&b, path)
		return err
	})
	if err != nil {
		return err.Error()
	}
	return b.String()
}

// gateLinks does something with each of the gate's pinned links, until that fails. It returns how many there are: none
// where the gate's programs are filters.
func gateLinks(pins string, do func(link.Link) error) (n int, err error) {
	paths, err := filepath.Glob(filepath.Join(pins, "links", "gate_tc_*"))
	for _, path := range paths {
		if err != nil {
			break
		}
		var l link.Link
		if l, err = link.LoadPinnedLink(path, nil); err != nil {
			break
		}
		if err = errors.Join(do(l), l.Close()); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}
	return len(paths), err
}

// detach takes the programs off the pod's interface: their links, or the queueing discipline with the filters.
func (s *scene) detach(t *testing.T, pins string) error {
	t.Helper()
	if n, err := gateLinks(pins, link.Link.Detach); n > 0 || err != nil {
		return err
	}
	s.net.Node.Do(t, func() error {
		all, err := netlink.QdiscList(s.net.Gate)
		for _, q := range all {
			if q.Type() == "clsact" {
				return netlink.QdiscDel(q)
			}
		}
		return errors.Join(errors.New("the gate is nowhere"), err)
	})
	return nil
}

// gated says whether both programs are at the pod's interface.
func (s *scene) gated(t *testing.T, pins string) error {
	t.Helper()
	n, err := gateLinks(pins, func(l link.Link) error {
		info, err := l.Info()
		if err != nil {
			return err
		}
		if tcx := info.TCX(); tcx == nil || int(tcx.Ifindex) != s.net.Gate.Attrs().Index {
			return errors.New("it is not attached")
		}
		return nil
	})
	if n > 0 || err != nil {
		return err
	}
	var failed error
	s.net.Node.Do(t, func() error {
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			filters, err := netlink.FilterList(s.net.Gate, parent)
			if len(filters) == 0 {
				failed = errors.Join(fmt.Errorf("no filter at %x", parent), err)
			}
		}
		return nil
	})
	return failed
}
