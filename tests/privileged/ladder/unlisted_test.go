package ladder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

const (
	fewContainers = 64 // that there is room for
	denyAll       = "\n  rules: [{name: r, action: Deny}]\n"
	denyNowhere   = "\n  rules: [{name: r, processes: [{binaries: [/nowhere]}], action: Deny}]\n"
	allowAll      = "\n  rules: [{name: r, egress: [{}]}]\n"
	auditAll      = "\n  mode: Audit" + denyAll
)

// crowded is a rig with more containers than there is room for; all of them, the first of which has room and the last has not.
func crowded(t *testing.T, unknownDeny bool) (*rig, []*pod.Container) {
	t.Helper()
	testutil.RequireRoot(t)
	r := newRigFor(t, strongest(t), probes.Config{Sizes: probes.Sizes{Containers: fewContainers}, UnknownDeny: unknownDeny})
	r.govern(t)
	var all []*pod.Container
	for range fewContainers { // the rig has one
		all = append(all, r.container(t, "web"))
	}
	r.events.Counted(t, "container_map")
	return r, all
}

// expectUnlisted checks what became of a line, and that a denial names the container and nothing that nobody can know.
func (r *rig) expectUnlisted(t *testing.T, c *pod.Container, want string) {
	t.Helper()
	r.events.Reset()
	r.expect(t, c, toOpen, want)
	if want == "ok" {
		return
	}
	e := r.events.Wait(t, "the denial", func(e event.Event) bool { // what is told of another container may come late
		return e.Verdict == event.VerdictDeny && e.Kind == event.KindConnect && e.Subject.Container == c.ID
	})
	if e.Subject.Origin != event.OriginUnknown || e.Subject.Session != 0 || e.Subject.Exe != r.program {
		t.Errorf("denied is %+v, want of unknown origin, %s", e.Subject, r.program)
	}
}

// TestFullContainers: processes of a container for which there is no room are denied all where a rule is enforced, since nobody
// knows which of them are whose; the next that finds room is governed as ever.
func TestFullContainers(t *testing.T) {
	r, all := crowded(t, true)
	last := all[len(all)-1]
	if err := r.labels.Confirm(last.ID, false); !errors.Is(err, unix.E2BIG) {
		t.Errorf("confirming a container without room: %v", err)
	}
	for i, tt := range []struct{ rules, listed, last string }{
		{denyAll, "EPERM", "EPERM"},
		{denyNowhere, "ok", "EPERM"},
		{webPolicy, "ok", "EPERM"}, // of Main
		{allowAll, "ok", "EPERM"},
		{auditAll, "ok", "ok"},
	} {
		r.swap(t, tt.rules)
		r.expect(t, all[i], toOpen, tt.listed)
		r.expectUnlisted(t, last, tt.last)
	}
	if err := os.Remove(all[fewContainers-2].Dir); err != nil {
		t.Fatal(err)
	}
	if err := r.labels.Confirm(last.ID, false); err != nil {
		t.Errorf("confirming a container: %v", err)
	}
	r.swap(t, webPolicy)
	r.expect(t, last, toOpen, "ok") // Main
	r.expect(t, last, toOpen, "EPERM")
}

// named makes a cgroup somewhere on the node.
func (r *rig) named(t *testing.T, dir ...string) *pod.Container {
	t.Helper()
	c := &pod.Container{Dir: filepath.Join(dir...), NS: r.ns}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c.ID = inode(t, c.Dir)
	return c
}

// TestUnlistedNames: a container for which there is no room is told by its name, or its parent's, as one for which there is; by the
// outermost of several; however a process enters; and unknownWorkload decides while no table knows it.
func TestUnlistedNames(t *testing.T) {
	for unknown, want := range map[string]string{"deny": "EPERM", "allow": "ok"} {
		t.Run(unknown, func(t *testing.T) {
			r, all := crowded(t, unknown == "deny")
			id := fmt.Sprintf("%064x", 1)
			slice, last := r.Cgroup(t, "test.slice"), filepath.Join(filepath.Dir(all[0].Dir), "last")
			for _, tt := range []struct {
				what          string
				container, in string // "" for in: container itself
			}{
				{"by its name", slice + "/" + id, ""},
				{"by the scope's name", slice + "/cri-containerd-" + id + ".scope", ""},
				{"below", slice + "/inner-" + id, "a/b"},
				{"the outermost by names", slice + "/outer-" + id, "a/" + id},
				{"by its parent", last, ""},
				{"below the child of a parent", last, "a/" + id},
			} {
				t.Run(tt.what, func(t *testing.T) {
					c := r.named(t, tt.container)
					in := r.named(t, tt.container, tt.in)
					r.swap(t, denyAll) // of others
					r.events.Reset()
					r.expect(t, in, toOpen, want)
					r.expectMoved(t, in, want)
					if want == "ok" {
						return
					}
					r.events.Wait(t, "the denial", func(e event.Event) bool {
						return e.Verdict == event.VerdictDeny && e.Reason == event.ReasonUnknown && e.Subject.Container == c.ID
					})
				})
			}
			for _, dir := range []string{slice + "/user.service", slice + "/" + id[1:], slice + "/x" + id + "0", filepath.Dir(last)} {
				r.expect(t, r.named(t, dir), toOpen, "ok") // of no container
			}
		})
	}
}

// expectMoved lets a process of no container enter a cgroup as a service manager or a runtime moves it.
func (r *rig) expectMoved(t *testing.T, c *pod.Container, want string) {
	t.Helper()
	p := r.victim(r.named(t, r.CgroupRoot, "test.slice", "outside"), "wait "+toOpen)
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	move(t, p.Process.Pid, c.Dir)
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if got := outcome(t, p); got != want {
		t.Errorf("moved into %s: got %s, want %s", c.Dir, got, want)
	}
}
