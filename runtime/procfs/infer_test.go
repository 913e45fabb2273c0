package procfs_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/runtime/procfs"
)

const (
	box     = "/default/box"
	hostNS  = 1 // PID namespaces
	podNS   = 2
	innerNS = 3
)

// proc describes a process in a line: who it is, who its parent and its session's leader are.
type proc struct {
	pid, ppid, session, nspid uint32 // nspid: in its own PID namespace
	start                     uint64
	cgroup                    string
	pidns                     uint64
}

func snapshot(procs []proc) []procfs.Process {
	all := make([]procfs.Process, len(procs))
	for i, p := range procs {
		all[i] = procfs.Process{
			PID: p.pid, PPID: p.ppid, Session: p.session, StartTicks: p.start, Cgroup: p.cgroup,
			NSPID: []uint32{p.pid}, Namespaces: procfs.Namespaces{PID: p.pidns},
		}
		if p.pidns != hostNS {
			all[i].NSPID = append(all[i].NSPID, p.nspid)
		}
	}
	return all
}

// node is what every case has: init of the node, a shim, and the container's first process, in a PID namespace of its own.
var node = []proc{
	{1, 0, 1, 1, 1, "/", hostNS},
	{90, 1, 90, 0, 50, "/system.slice/containerd.service", hostNS},
	{100, 90, 100, 1, 100, box, podNS},
}

func TestInferInAPrivatePIDNamespace(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		more   []proc
		execs  []uint32
		pid    uint32
		origin procfs.Origin
		root   uint32
		reason procfs.Reason
	}{
		{"the first process", nil, nil, 100, procfs.Main, 0, procfs.ReasonInit},
		{"child of init in its session", []proc{{101, 100, 100, 2, 101, box, podNS}}, nil, 101, procfs.Main, 0, procfs.ReasonSession},
		{"orphan of Main, in its session", []proc{{105, 100, 100, 9, 140, box, podNS}}, nil, 105, procfs.Main, 0, procfs.ReasonSession},
		{"exec", []proc{{110, 90, 110, 7, 120, box, podNS}}, nil, 110, procfs.Exec, 110, procfs.ReasonJoined},
		{"exec that the runtime names", []proc{{110, 90, 110, 7, 120, box, podNS}}, []uint32{110}, 110, procfs.Exec, 110, procfs.ReasonRuntime},
		{
			"child of an exec with a session of its own",
			[]proc{{110, 90, 110, 7, 120, box, podNS}, {111, 110, 111, 8, 121, box, podNS}},
			nil, 111, procfs.Exec, 110, procfs.ReasonParent,
		},
		{
			"orphan of an exec that still runs", // nohup x &, in a shell that is open
			[]proc{{110, 90, 110, 7, 120, box, podNS}, {112, 100, 110, 9, 122, box, podNS}},
			nil, 112, procfs.Exec, 110, procfs.ReasonSession,
		},
		{
			"orphan of an exec that ended",
			[]proc{{112, 100, 110, 9, 122, box, podNS}},
			nil, 112, procfs.Unknown, 0, procfs.ReasonAdopted,
		},
		{
			"orphan with a session of its own", // a daemon of either
			[]proc{{113, 100, 113, 9, 122, box, podNS}},
			nil, 113, procfs.Unknown, 0, procfs.ReasonAdopted,
		},
		{
			"child of an orphan",
			[]proc{{113, 100, 113, 9, 122, box, podNS}, {114, 113, 113, 10, 123, box, podNS}},
			nil, 114, procfs.Unknown, 0, procfs.ReasonUnproved,
		},
		{
			"child of Main's child, session of its own",
			[]proc{{101, 100, 100, 2, 101, box, podNS}, {102, 101, 102, 3, 102, box, podNS}},
			nil, 102, procfs.Main, 0, procfs.ReasonParent,
		},
		{
			"adopted by the init of a nested PID namespace of Main",
			[]proc{
				{101, 100, 100, 2, 101, box, podNS},
				{103, 101, 103, 1, 103, box, innerNS},
				{104, 103, 104, 2, 130, box, innerNS}, // nsenter of an exec, orphaned
			},
			nil, 104, procfs.Unknown, 0, procfs.ReasonAdopted,
		},
		{"init of a nested PID namespace", []proc{{103, 100, 100, 1, 103, box, innerNS}}, nil, 103, procfs.Main, 0, procfs.ReasonSession},
		{"exec in a cgroup inside the container's", []proc{{110, 90, 110, 7, 120, box + "/sub", podNS}}, nil, 110, procfs.Exec, 110, procfs.ReasonJoined},
		{
			"child of one that left the cgroup",
			[]proc{{101, 100, 101, 2, 101, "/", innerNS}, {102, 101, 102, 3, 102, box, innerNS}},
			nil, 102, procfs.Unknown, 0, procfs.ReasonUnproved,
		},
		{"parent that is gone", []proc{{111, 110, 111, 8, 121, box, podNS}}, nil, 111, procfs.Unknown, 0, procfs.ReasonUnfollowed},
		{
			"parent's number given away",
			[]proc{{110, 100, 100, 7, 500, box, podNS}, {111, 110, 111, 8, 121, box, podNS}},
			nil, 111, procfs.Unknown, 0, procfs.ReasonUnfollowed,
		},
		{
			"circle of a torn snapshot",
			[]proc{{110, 111, 110, 7, 120, box, podNS}, {111, 110, 111, 8, 120, box, podNS}},
			nil, 110, procfs.Unknown, 0, procfs.ReasonUnproved,
		},
		{
			"leader of the session outside the container", // a runtime without setsid
			[]proc{{115, 100, 90, 9, 122, box, podNS}},
			nil, 115, procfs.Unknown, 0, procfs.ReasonAdopted,
		},
		{"process of the node, moved in", []proc{{120, 1, 120, 0, 300, box, hostNS}}, nil, 120, procfs.Exec, 120, procfs.ReasonJoined},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			all := snapshot(append(append([]proc(nil), node...), tc.more...))
			want := procfs.Inferred{PID: tc.pid, Origin: tc.origin, SessionRootPID: tc.root, Reason: tc.reason}
			for _, p := range all {
				if p.PID == tc.pid {
					want.StartTicks = p.StartTicks
				}
				if p.PID == tc.root {
					want.SessionStart = p.StartTicks
				}
			}
			checkInferred(t, all, procfs.Query{Cgroup: box, InitPID: 100, Execs: tc.execs}, want)
		})
	}
}

func checkInferred(t *testing.T, all []procfs.Process, q procfs.Query, want procfs.Inferred) {
	t.Helper()
	for _, got := range procfs.Infer(all, q) {
		if got.PID == want.PID {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("inferred (-want +got):\n%s", diff)
			}
			return
		}
	}
	t.Errorf("process %d was not told of", want.PID)
}

func TestInferInASharedPIDNamespace(t *testing.T) {
	t.Parallel()
	pod := snapshot([]proc{
		{1, 0, 1, 1, 1, "/", hostNS},
		{90, 1, 90, 0, 50, "/shim", hostNS},
		{95, 90, 95, 1, 95, "/default/pause", podNS},
		{100, 90, 100, 7, 100, box, podNS},
		{101, 95, 100, 8, 101, box, podNS}, // orphan of Main
		{102, 95, 102, 9, 102, box, podNS}, // orphan of somebody
		{110, 90, 110, 10, 120, box, podNS},
	})
	q := procfs.Query{Cgroup: box, InitPID: 100}
	checkInferred(t, pod, q, procfs.Inferred{PID: 101, StartTicks: 101, Origin: procfs.Main, Reason: procfs.ReasonSession})
	checkInferred(t, pod, q, procfs.Inferred{PID: 102, StartTicks: 102, Reason: procfs.ReasonSharedPID})
	checkInferred(t, pod, q, procfs.Inferred{
		PID: 110, StartTicks: 120, Origin: procfs.Exec, SessionRootPID: 110, SessionStart: 120, Reason: procfs.ReasonJoined,
	})

	host := snapshot([]proc{
		{1, 0, 1, 1, 1, "/", hostNS},
		{90, 1, 90, 0, 50, "/shim", hostNS},
		{100, 90, 100, 0, 100, box, hostNS},
		{110, 90, 110, 0, 120, box, hostNS}, // exec, or a daemon of Main that the shim adopted
		{111, 100, 111, 0, 121, box, hostNS},
	})
	checkInferred(t, host, q, procfs.Inferred{PID: 110, StartTicks: 120, Reason: procfs.ReasonSharedPID})
	checkInferred(t, host, q, procfs.Inferred{PID: 111, StartTicks: 121, Origin: procfs.Main, Reason: procfs.ReasonParent})
	q.Execs = []uint32{110}
	checkInferred(t, host, q, procfs.Inferred{
		PID: 110, StartTicks: 120, Origin: procfs.Exec, SessionRootPID: 110, SessionStart: 120, Reason: procfs.ReasonRuntime,
	})
}

func TestInferLeavesOthersOut(t *testing.T) {
	t.Parallel()
	all := snapshot(append(append([]proc(nil), node...), proc{200, 90, 200, 1, 110, "/default/box2", innerNS}))
	got := procfs.Infer(all, procfs.Query{Cgroup: box, InitPID: 100})
	want := []procfs.Inferred{{PID: 100, StartTicks: 100, Origin: procfs.Main, Reason: procfs.ReasonInit}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inferred (-want +got):\n%s", diff)
	}
	got = procfs.Infer(all, procfs.Query{Cgroup: box})
	want = []procfs.Inferred{{PID: 100, StartTicks: 100, Reason: procfs.ReasonNoInit}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("without an init (-want +got):\n%s", diff)
	}
}
