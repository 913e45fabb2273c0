package ladder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// overlay is an overlay with the victim in its lower layer, as the files of an image are, and a copy of the victim that was
// changed since. Its layers are in memory, since an overlay cannot be the upper layer of another.
func overlay(t *testing.T, r *rig) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	for _, sub := range []string{"lower", "upper", "work", "root"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	program, err := os.ReadFile(r.program)
	must(t, err)
	for name, text := range map[string][]byte{"tool": program, "changed": program} {
		must(t, os.WriteFile(filepath.Join(dir, "lower", name), text, 0o755))
	}
	root := filepath.Join(dir, "root")
	at := func(name string) string { return name + "dir=" + filepath.Join(dir, name) }
	must(t, unix.Mount("overlay", root, "overlay", 0, strings.Join([]string{at("lower"), at("upper"), at("work")}, ",")))
	t.Cleanup(func() { must(t, unix.Unmount(root, unix.MNT_DETACH)) })
	changed, err := os.OpenFile(filepath.Join(root, "changed"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = changed.WriteString("more")
	must(t, errors.Join(err, changed.Close()))
	return root
}

// TestDrift holds that what a process does says whether its program, or its script, is of the image or was written since.
func TestDrift(t *testing.T) {
	testutil.RequireRoot(t)
	r := newRig(t, strongest(t))
	root := overlay(t, r)
	c := r.started(t, "web")
	r.swap(t, webPolicy)
	for _, tc := range []struct {
		line    string
		drifted bool
		script  bool // known only where the kernel tells which file a script is
	}{
		{"run ROOT/tool", false, false},
		{"run ROOT/changed", true, false},
		{"run ROOT/tool copy ROOT/copied", true, false},
		{"run ROOT/changed run ROOT/tool", false, false}, // that one is over
		{"run ROOT/changed fork", true, false},
		{"run ROOT/tool memfd", true, false},
		{"run ROOT/tool script ROOT/new.sh", true, true},
		{"run ROOT/tool script ROOT/other.sh run ROOT/tool", false, false},
	} {
		if tc.script && !r.judge.Scripts() {
			continue
		}
		r.events.Reset()
		line := strings.ReplaceAll(tc.line, "ROOT", root)
		r.expect(t, c, line+" -- connect-tcp SERVER4 CLOSED", "EPERM")
		e := r.events.Wait(t, line, func(e event.Event) bool { return e.Kind == event.KindConnect && e.Verdict == event.VerdictDeny })
		if e.Subject.Drifted != tc.drifted {
			t.Errorf("%s: that it drifted is told as %t", line, e.Subject.Drifted)
		}
	}
}
