package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/gate"
	"github.com/sallyport/sallyport/probes/judge"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

const (
	guardedPods  = 100
	looks        = 200
	looksASecond = 1 / 0.3
)

// TestGuardAtRest measures what the agent's looks at what enforces take of a processor where nobody has tampered with it.
func TestGuardAtRest(t *testing.T) {
	if testutil.InVM() {
		t.Skip("nanoseconds of an emulated machine mean nothing")
	}
	node, ns := pod.NewNode(t), testutil.NewNetNS(t)
	k, err := probes.Open(probes.Config{BPFFS: node.BPFFS, PinDir: "sallyport", CgroupRoot: node.CgroupRoot, Guard: true})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close() // the test is over
	j := judge.Open(k)
	if _, err := j.Swap(&compile.Tables{Rulesets: []*compile.Ruleset{{}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := label.Attach(k); err != nil {
		t.Fatal(err)
	}
	if err := j.Attach([]event.Step{event.StepLSM, event.StepModRet, event.StepCgroup}); err != nil {
		t.Fatal(err)
	}
	g, err := gate.Attach(k)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close() // the test is over
	rows := []row{guarding(t, k, "no pod")}
	ns.Do(t, func() error {
		for i := range guardedPods {
			veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprint("a", i)}, PeerName: fmt.Sprint("b", i)}
			if err := netlink.LinkAdd(veth); err != nil {
				return err
			}
			if err := g.Govern(gate.Veth{Ifindex: uint32(veth.Index), NetNS: uint64(i + 1), Container: 1}); err != nil {
				return err
			}
		}
		return nil
	})
	printTable("What a second of looks takes of a processor", append(rows, guarding(t, k, fmt.Sprint(guardedPods, " pods"))))
}

// guarding measures the looks of a second.
func guarding(t *testing.T, k *probes.Kernel, what string) row {
	t.Helper()
	time.Sleep(200 * time.Millisecond) // what has just been pinned is looked at whole
	k.Check()
	begin := processor(t)
	for range looks {
		if found := k.Check(); len(found) > 0 {
			t.Fatalf("found %+v", found)
		}
	}
	used := processor(t) - begin
	return row{what + ", looked at " + fmt.Sprintf("%.1f times", looksASecond), 0, time.Duration(float64(used) / looks * looksASecond), "≤ 5 ms"}
}
