// Package judge climbs the enforcement ladder: for every hook it attaches the strongest step that this
// kernel really loads (BPF LSM, fmod_ret, cgroup programs, report only), and it puts compiled policies
// in force. It imports probes, its internals and policy/compile only.
package judge

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
	"github.com/sallyport/sallyport/probes/internal/tables"
)

// Judge owns the JUDGE programs and the tables.
type Judge struct {
	kernel *probes.Kernel
	store  *tables.Store
	hooks  []probes.Hook
	specs  map[event.Step]*ebpf.CollectionSpec // while hooks are attached: nine of them have their programs in one object
}

// Open returns a judge that can put tables in force; Attach makes the kernel use them. Two steps, so
// that nothing is judged by empty tables.
func Open(k *probes.Kernel) *Judge { return &Judge{kernel: k, store: tables.NewStore(k.Maps())} }

// AttachExec does what Attach does for the one hook that judges nothing, and that the compiler must know of
// before there are tables: see Scripts.
func (j *Judge) AttachExec(steps []event.Step) error {
	return j.climbAll(steps, func(name string) bool { return name == hookExec })
}

// Scripts says whether the kernel tells which file a script is (compile.Enforced.Scripts).
func (j *Judge) Scripts() bool {
	return slices.ContainsFunc(j.hooks, func(h probes.Hook) bool { return h.Name == hookExec && len(h.Programs) > 0 })
}

// Attach gives every hook the first of steps, in that order, that this kernel can have. It fails only
// when a hook gets none of them.
func (j *Judge) Attach(steps []event.Step) error {
	err := j.climbAll(steps, func(name string) bool {
		return !slices.ContainsFunc(j.hooks, func(got probes.Hook) bool { return got.Name == name }) // by AttachExec
	})
	j.specs = nil
	if err != nil {
		return err
	}
	return j.retire()
}

// climbAll attaches the wanted hooks.
func (j *Judge) climbAll(steps []event.Step, wanted func(name string) bool) error {
	if j.specs == nil {
		j.specs = map[event.Step]*ebpf.CollectionSpec{}
	}
	for _, h := range hooks() {
		if !wanted(h.name) {
			continue
		}
		got, err := j.climb(h, steps)
		if err != nil {
			return err
		}
		j.hooks = append(j.hooks, got)
	}
	return nil
}

// climb attaches one hook.
func (j *Judge) climb(h hook, steps []event.Step) (probes.Hook, error) {
	got := probes.Hook{Name: h.name}
	for _, step := range steps {
		r, ok := h.rungs[step]
		if !ok {
			continue
		}
		adopted, err := j.attach(step, r)
		if err != nil {
			got.Refused = append(got.Refused, fmt.Sprintf("%s: %v", StepName(step), reason(err)))
			continue
		}
		got.Step, got.Programs, got.NotStopped, got.Adopted = step, r.programs, r.notStopped, adopted
		return got, nil
	}
	return got, fmt.Errorf("hook %s: no step of the ladder works on this kernel: %s", h.name, strings.Join(got.Refused, "; "))
}

// reason is the one line of an error that a reader of status needs: the verifier's log stays out, and
// so does the library's guess at a limit of locked memory, which kernels since 5.11 do not have.
func reason(err error) error {
	if errors.Is(err, unix.EPERM) {
		return errors.New("this kernel refuses programs of this kind (EPERM)")
	}
	if ve, ok := errors.AsType[*ebpf.VerifierError](err); ok {
		return ve.Cause
	}
	return err
}

// attach puts the programs of a rung in place.
func (j *Judge) attach(step event.Step, r rung) (adopted bool, err error) {
	if len(r.programs) == 0 {
		return true, nil
	}
	if err := called(step); err != nil {
		return false, err
	}
	if j.specs[step] == nil {
		spec, err := object(step)
		if err != nil {
			return false, err
		}
		j.specs[step] = spec
	}
	return j.attachPrograms(j.specs[step], r)
}

// attachPrograms loads the programs of a rung out of spec and attaches them in order.
func (j *Judge) attachPrograms(spec *ebpf.CollectionSpec, r rung) (adopted bool, err error) {
	coll, err := j.kernel.Maps().Load(spec, r.programs...)
	if err != nil {
		return false, err
	}
	defer coll.Close()
	adopted = true
	for _, name := range r.programs {
		// Kept for as long as the link is: without the instructions.
		ps := &ebpf.ProgramSpec{Name: name, Type: spec.Programs[name].Type, AttachType: spec.Programs[name].AttachType, AttachTo: spec.Programs[name].AttachTo}
		kept, err := j.kernel.Pins().Attach(name, coll.Programs[name], func(p *ebpf.Program) (link.Link, error) {
			return attachProgram(j.kernel.CgroupRoot(), ps, p)
		})
		if err != nil {
			return false, err
		}
		adopted = adopted && kept
		if byFtrace(ps.Type) {
			j.kernel.NeedFtrace()
		}
	}
	return adopted, nil
}

// object is the collection that holds a step's programs.
func object(step event.Step) (*ebpf.CollectionSpec, error) {
	switch step {
	case event.StepLSM:
		return bpfobj.LoadJudgeLSM()
	case event.StepModRet:
		return bpfobj.LoadJudgeModRet()
	case event.StepCgroup:
		return bpfobj.LoadJudgeCgroup()
	case event.StepReport:
		return bpfobj.LoadJudgeReport()
	case event.StepNone, event.StepGate, event.StepTap:
	}
	return nil, fmt.Errorf("step %d is not on the ladder", step)
}

// byFtrace says of which programs the kernel calls none while it does not trace functions.
func byFtrace(t ebpf.ProgramType) bool { return t == ebpf.LSM || t == ebpf.Tracing || t == ebpf.Kprobe }

// attachProgram attaches by what the program's section says.
func attachProgram(cgroup string, spec *ebpf.ProgramSpec, p *ebpf.Program) (link.Link, error) {
	switch spec.Type {
	case ebpf.LSM:
		return link.AttachLSM(link.LSMOptions{Program: p})
	case ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: p})
	case ebpf.CGroupSockAddr, ebpf.CGroupSock, ebpf.CGroupSockopt:
		return link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: spec.AttachType, Program: p})
	case ebpf.Kprobe:
		return link.Kprobe(spec.AttachTo, p, nil)
	default:
		return nil, fmt.Errorf("program %s: unexpected type %s", spec.Name, spec.Type)
	}
}

// retire removes the pinned links of steps that are not taken any more, after the taken ones are in
// place: at no moment does nobody judge.
func (j *Judge) retire() error {
	keep := map[string]bool{}
	for _, h := range j.hooks {
		for _, name := range h.Programs {
			keep[name] = true
		}
	}
	var errs []error
	for _, h := range hooks() {
		for _, r := range h.rungs {
			// The last attached goes first: fmod_ret denies what fentry has not judged.
			for _, name := range slices.Backward(r.programs) {
				if !keep[name] {
					errs = append(errs, j.kernel.Pins().Detach(name))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// Hooks says what is in place.
func (j *Judge) Hooks() []probes.Hook { return slices.Clone(j.hooks) }

// Swap puts compiled tables in force and returns their revision. On error the former stay, whole.
func (j *Judge) Swap(t *compile.Tables) (uint64, error) {
	revision, err := j.store.Swap(t)
	if err != nil {
		return revision, fmt.Errorf("swapping tables: %w", err)
	}
	return revision, nil
}

// StepName is the name of a step as configuration and status write it.
func StepName(s event.Step) string {
	switch s {
	case event.StepLSM:
		return "lsm"
	case event.StepModRet:
		return "fmod_ret"
	case event.StepCgroup:
		return "cgroup"
	case event.StepReport:
		return "report"
	case event.StepGate:
		return "gate"
	case event.StepTap:
		return "tap"
	case event.StepNone:
	}
	return "none"
}
