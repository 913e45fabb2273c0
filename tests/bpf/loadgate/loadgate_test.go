// Package loadgate loads every program of every committed object on the running kernel, those that
// enforce first. A kernel that cannot have a program is told by its features, never by its version.
package loadgate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/feature"
)

// need is what programs need of a kernel beyond what all of them need (Linux 5.17 and BTF).
type need struct {
	prefix   string // of the programs' names
	probe    feature.Probe
	reason   string // why a kernel may lack it
	says     string // what the kernel's refusal of our programs says then
	stepDown string // what judges there instead
}

// needs holds every program that some kernel of the matrix cannot have.
func needs() []need {
	return []need{
		{"judge_lsm_", feature.LSMLoads, "BPF LSM is not built in or refused", "operation not permitted", "fmod_ret"},
		{"judge_fentry_", feature.Fentry, "trampolines are refused", "operation not permitted", "cgroup programs"},
		{"judge_fexit_", feature.Fentry, "trampolines are refused", "operation not permitted", "nobody: it judges nothing"},
		{"judge_modret_", feature.ModRet, "trampolines are refused", "operation not permitted", "cgroup programs"},
		{"judge_cgroup_", feature.CgroupTaskStorage, "no task storage in cgroup socket programs (before 6.18)", "bpf_task_storage_get", "report only"},
	}
}

func needOf(program string) (need, bool) {
	for _, n := range needs() {
		if strings.HasPrefix(program, n.prefix) {
			return n, true
		}
	}
	return need{}, false
}

// flowEntries keeps the pre-allocated maps of the test small: size is not what is tested.
const flowEntries = 1024

func TestEveryProgramLoads(t *testing.T) {
	testutil.RequireRoot(t)
	kernel, verified := kernelVersion(t), committed(t)
	missing := map[string]error{} // by need.prefix: what this kernel lacks
	for _, n := range needs() {
		missing[n.prefix] = n.probe()
	}
	count, types := 0, btf.NewCache()
	for _, o := range probes.Objects() {
		spec, err := o.Load()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range spec.Maps {
			m.Pinning = ebpf.PinNone
			if m.Type == ebpf.LRUHash {
				m.MaxEntries = flowEntries
			}
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
			count++
			t.Run(o.Name+"/"+name, func(t *testing.T) {
				insns, err := load(t, spec, name, types)
				n, conditional := needOf(name)
				switch lack := missing[n.prefix]; {
				case conditional && lack != nil && err == nil:
					t.Errorf("it loads, but the table says it cannot: %s (%v)", n.reason, lack)
				case conditional && lack != nil && !strings.Contains(fmt.Sprintf("%+v", err), n.says):
					t.Errorf("it does not load, for another reason than %s: %+v", n.reason, err)
				case conditional && lack != nil:
					t.Logf("not on this kernel: %s (%v); one step down: %s", n.reason, lack, n.stepDown)
				case err != nil:
					t.Errorf("loading: %+v", err)
				default:
					verified.compare(t, o.Name+"/"+name, kernel, insns)
				}
			})
		}
	}
	if count == 0 {
		t.Error("there is no program")
	}
}

// load loads one program with its maps, and returns how many instructions the verifier looked at. types are the kernel's.
func load(t *testing.T, spec *ebpf.CollectionSpec, name string, types *btf.Cache) (uint32, error) {
	t.Helper()
	one := spec.Copy()
	one.Programs = map[string]*ebpf.ProgramSpec{name: one.Programs[name]}
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		return 0, err
	}
	defer coll.Close()
	info, err := coll.Programs[name].Info()
	if err != nil {
		t.Fatal(err)
	}
	insns, ok := info.VerifiedInstructions()
	if !ok {
		t.Error("the kernel does not say how much it verified, which all do that have what these programs need")
	}
	return insns, nil
}
