package tls

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// asks lets the client in Go ask for paths, and returns what it says of each, by path.
func (s *scene) asks(t *testing.T, protocol string, workers int, paths ...string) map[string]string {
	t.Helper()
	args := []string{ownProgram, askArg, protocol, strconv.Itoa(workers)}
	for _, path := range paths {
		args = append(args, "https://"+s.server.String()+path)
	}
	c := s.box.Command(args...)
	said := map[string]string{}
	for line := range strings.Lines(c.Run(t)) {
		path, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[path] = text
	}
	if len(said) != len(paths)+1 || said["moved"] == "0" {
		t.Fatalf("%d paths: it says %q, complains %q", len(paths), said, c.Complaint())
	}
	return said
}

// paths names many paths that begin alike.
func paths(begin string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%s/%d", begin, i))
	}
	return out
}

// goClients: programs in Go ask with many goroutines, which move between threads, on a pool of connections.
func goClients(t *testing.T, s *scene) {
	t.Helper()
	for i, protocol := range []string{overHTTP1, overHTTP2} {
		t.Run(protocol, func(t *testing.T) {
			goPool(t, s, protocol, fmt.Sprintf("/go-%d", i))
		})
	}
	t.Run("streams", func(t *testing.T) { goStreams(t, s) })
	t.Run("probed twice", func(t *testing.T) { goTwice(t, s) })
}

// goTwice: a file that looks like another is probed once more, as that of an image is for each container whose file
// system is made of the same layer; what is written is read once.
func goTwice(t *testing.T, s *scene) {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil { // it gets another time of change
		t.Fatal(err)
	}
	before := len(s.pinned(t))
	c := s.start(t, ownProgram, talkArg, s.server.String())
	testutil.Eventually(t, "a second probe", func() error { // at first it has not executed yet
		if err := s.taps.Cover(s.box.ID+1, uint32(c.Process.Process.Pid)); err != nil {
			return err
		}
		if now := len(s.pinned(t)); now <= before {
			return fmt.Errorf("%d links were pinned, and now %d", before, now)
		}
		return nil
	})
	for i, protocol := range []string{overHTTP1, overHTTP2} {
		goPool(t, s, protocol, fmt.Sprintf("/go-twice-%d", i))
	}
}

func goPool(t *testing.T, s *scene, protocol, mark string) {
	t.Helper()
	const many, workers = 30, 5
	welcome := protocol + " welcome"
	for path, said := range s.asks(t, protocol, workers, paths("/allowed"+mark, many)...) {
		if path != "moved" && said != welcome {
			t.Errorf("%s: %q", path, said)
		}
	}
	// What one request has done to its connection is no other's matter, nor the next connection's.
	for path, said := range s.asks(t, protocol, 1, "/allowed"+mark+"/first", "/denied"+mark+"/one", "/allowed"+mark+"/last") {
		want := welcome
		if strings.HasPrefix(path, "/denied") {
			want = failed
		}
		if path != "moved" && said != want {
			t.Errorf("%s: %q", path, said)
		}
	}
	if s.has("/denied" + mark + "/one") {
		t.Error("the server has seen what is denied")
	}
	e := s.events.Wait(t, "the denial", func(e event.Event) bool { return e.Path == "/denied"+mark+"/one" })
	if e.Kind != event.KindRequest || e.Step != event.StepTap || e.Method != http.MethodGet || e.Host != s.server.String() ||
		e.Verdict != event.VerdictDeny || e.Reason != event.ReasonRule || e.Remote != s.server {
		t.Errorf("it is told as %+v", e)
	}
	if protocol != overHTTP1 {
		return
	}
	mixed := append(paths("/allowed"+mark+"/mixed", many), paths("/denied"+mark+"/mixed", many)...)
	for path, said := range s.asks(t, protocol, workers, mixed...) {
		want := welcome
		if strings.HasPrefix(path, "/denied") {
			want = failed
		}
		if path != "moved" && said != want || want == failed && s.has(path) {
			t.Errorf("%s among others: %q", path, said)
		}
	}
}

// goStreams: on one connection of HTTP/2 a denied request among others ends the connection with all its streams, and is
// not sent.
func goStreams(t *testing.T, s *scene) {
	t.Helper()
	const many, workers = 10, 10
	mixed := append(paths("/allowed/go-streams", many), paths("/denied/go-streams", many)...)
	for path, said := range s.asks(t, overHTTP2, workers, mixed...) {
		denied := strings.HasPrefix(path, "/denied")
		if denied && (said != failed || s.has(path)) {
			t.Errorf("%s: %q", path, said)
		}
		if path != "moved" && !denied && said != failed && said != overHTTP2+" welcome" {
			t.Errorf("%s: %q", path, said)
		}
	}
}
