package tls

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// statusPath begins the paths that are answered with the status behind it, behind an interim one.
const statusPath = "/allowed/status/"

// TestStatuses: over HTTP/2 and TLS the answers on a connection are told with their statuses, one behind the other and many at
// once.
func TestStatuses(t *testing.T) {
	onOneStep(t, func(t *testing.T, step event.Step) {
		s := newSceneOf(t, step, probes.Config{TellConnect: true})
		self := uint32(os.Getpid())
		if err := errors.Join(s.taps.CoverLibraries(s.box.ID, self), s.taps.Cover(s.box.ID, self)); err != nil {
			t.Fatal(err)
		}
		s.swap(t, "Enforce", asked)
		for _, how := range []string{"--no-parallel", "--parallel"} {
			s.events.Reset()
			args := []string{"curl", "-sk", "--http2", "--max-time", "60", how}
			const n = 28
			for i := range n {
				args = append(args, "-o", "/dev/null", fmt.Sprint("https://", s.server, statusPath, []int{200, 403, 404, 418, 500, 299, 418}[i%7]))
			}
			c := s.box.Command(args...)
			if said := c.Run(t); c.ProcessState.ExitCode() != 0 {
				t.Fatalf("curl says %q: %s", said, c.Complaint())
			}
			testutil.Eventually(t, "all answers", func() error {
				requests := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindRequest })
				if len(requests) != n {
					return fmt.Errorf("%d requests are told of %d", len(requests), n)
				}
				for _, request := range requests {
					told := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindResponse && e.Asked == request.Asked })
					want := strings.TrimPrefix(request.Path, statusPath)
					if len(told) != 1 || strconv.Itoa(int(told[0].Status)) != want || told[0].Latency <= 0 || told[0].Step != event.StepTap || told[0].Local != request.Local {
						return fmt.Errorf("%s: %s is answered by %+v", how, request.Path, told)
					}
				}
				return nil
			})
		}
	})
}
