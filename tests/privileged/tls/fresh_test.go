package tls

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/read"
	"github.com/sallyport/sallyport/tests/testutil"
)

// freshFiles: programs that nobody has executed before ask at once, while their files are being tapped, sooner or later. What is
// denied never arrives, read or not; how many of those that are allowed come too early is what the test says.
func freshFiles(t *testing.T, s *scene) {
	t.Helper()
	const many = 5
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var (
		done    sync.WaitGroup
		mu      sync.Mutex
		arrived int
	)
	for i := range many {
		path := filepath.Join(dir, fmt.Sprint("client-", i))
		copyProgram(t, self, path)
		for _, what := range []string{"/denied", "/allowed"} {
			path, ask := path, fmt.Sprintf("%s/fresh/%d", what, i)
			c := s.box.Command(path, insideArg, "https://"+s.server.String()+ask)
			c.Start(t)
			done.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond) // in another moment of its beginning each
				if err := s.taps.Cover(s.box.ID, uint32(c.Process.Pid)); err != nil {
					t.Error(err)
				}
				c.Result()
				mu.Lock()
				defer mu.Unlock()
				if s.has(ask) {
					arrived++
				}
			})
		}
	}
	done.Wait()
	for i := range many {
		if path := fmt.Sprintf("/denied/fresh/%d", i); s.has(path) {
			t.Errorf("the server has seen %s", path)
		}
	}
	t.Logf("%d of %d first requests that are allowed were in time", arrived, many)
}

// copyProgram makes another file of a program.
func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// A Go program of a container has its tap before anybody executes it, until the container needs none any more.
func TestProgramsBeforeTheyRun(t *testing.T) {
	testutil.RequireRoot(t)
	s := newScene(t, event.StepCgroup)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"runs", "waits"} {
		copyProgram(t, self, filepath.Join(root, "app", name))
	}
	if err := os.WriteFile(filepath.Join(root, "app", "text"), []byte("#!/app/runs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // a process that says hello to it goes on
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() }) // ends the process too
	c := exec.Command("/app/runs", talkArg, silent.Addr().String())
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	c.Dir = "/"
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()         // killed
	})
	for range 2 { // after the first, all of it is forgotten
		if err := s.taps.CoverPrograms(s.box.ID, uint32(c.Process.Pid)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range s.taps.Files(s.box.ID) {
			got = append(got, f.Path+" "+string(f.Library)+f.Why)
		}
		if want := []string{"/app/runs " + string(read.Go), "/app/waits " + string(read.Go)}; !slices.Equal(got, want) {
			t.Errorf("taps of %q, not of %q", got, want)
		}
		if err := s.taps.Retain(func(uint64) bool { return false }); err != nil {
			t.Fatal(err)
		}
		if left := s.pinned(t); len(left) != 0 {
			t.Errorf("%q is left where nobody needs it", left)
		}
	}
}
