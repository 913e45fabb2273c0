package tls

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// statusPath begins the paths that are answered with the status behind it, behind an interim one.
const statusPath = "/allowed/status/"

// TestStatuses: over TLS the answers on a connection are told with their statuses, one behind the other and many at once: to curl
// over HTTP/2, to programs in Go, whose goroutines move between threads, over both versions, and by NSS.
func TestStatuses(t *testing.T) {
	onOneStep(t, func(t *testing.T, step event.Step) {
		s := newSceneOf(t, step, probes.Config{TellConnect: true})
		self := uint32(os.Getpid())
		if err := errors.Join(s.taps.CoverLibraries(s.box.ID, self), s.taps.Cover(s.box.ID, self)); err != nil {
			t.Fatal(err)
		}
		s.swap(t, "Enforce", asked)
		const n = 28
		urls, nowhere := make([]string, n), []string{}
		for i := range urls {
			urls[i] = fmt.Sprint("https://", s.server, statusPath, []int{200, 403, 404, 418, 500, 299, 418}[i%7])
			nowhere = append(nowhere, "-o", "/dev/null")
		}
		curl := append([]string{"curl", "-sk", "--http2", "--max-time", "60"}, nowhere...)
		for _, how := range [][]string{
			append(curl, "--no-parallel"), append(curl, "--parallel"),
			{ownProgram, askArg, overHTTP2, "1"},
			{ownProgram, askArg, overHTTP2, "4"},
			{ownProgram, askArg, overHTTP1, "4"},
		} {
			s.events.Reset()
			c := s.box.Command(slices.Concat(how, urls)...)
			if said := c.Run(t); c.ProcessState.ExitCode() != 0 {
				t.Fatalf("%q says %q: %s", how, said, c.Complaint())
			}
			testutil.Eventually(t, "all answers", func() error { return s.statuses(n) })
		}
		s.events.Reset()
		typed := s.start(t, "tstclnt", "-D", "-o", "-h", s.host(), "-p", s.port()) // NSS; it goes on until its input ends
		typed.say(t, "GET "+statusPath+"404 HTTP/1.1\r\nHost: "+s.server.String()+"\r\n\r\n")
		testutil.Eventually(t, "an answer by NSS", func() error { return s.statuses(1) })
	})
}

// statuses says what is wrong with what is told of n answers.
func (s *scene) statuses(n int) error {
	requests := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindRequest })
	if len(requests) != n {
		return fmt.Errorf("%d requests are told of %d", len(requests), n)
	}
	for _, request := range requests {
		told := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindResponse && e.Asked == request.Asked })
		want := strings.TrimPrefix(request.Path, statusPath)
		if len(told) != 1 || strconv.Itoa(int(told[0].Status)) != want || told[0].Latency <= 0 || told[0].Step != event.StepTap || told[0].Local != request.Local {
			return fmt.Errorf("%s of %s is answered by %+v", request.Path, request.Subject.Exe, told)
		}
	}
	return nil
}
