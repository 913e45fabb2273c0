package tls

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/runtime/netns"
)

// TestDeniedConnectionEnds: a program that does not look at the error of its write waits for its server, as Node does over HTTP/2.
// What is told of the denied request names the socket, whose connection can be ended as the agent does, and the program goes on.
func TestDeniedConnectionEnds(t *testing.T) {
	onSteps(t, func(t *testing.T, step event.Step) {
		s := newSceneOf(t, step, probes.Config{TellConnect: true})
		s.coverClients(t)
		s.swap(t, "Enforce", asked)
		fill := strings.NewReplacer("%PATH", "/denied/end", "%HOST", s.server.String())
		p := s.start(t, node, "-e", fill.Replace(nodeHTTP2))
		e := s.events.Wait(t, "a denied request", func(e event.Event) bool { return e.Path == "/denied/end" })
		if e.Socket == 0 || e.Verdict != event.VerdictDeny {
			t.Fatalf("it is told as %+v", e)
		}
		err := netns.Abort(e.Subject.PID, e.NetNS, netns.Connection{Local: e.Local, Remote: e.Remote, Socket: e.Socket})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have looked, and ended
			t.Error(err)
		}
		p.ended(t)
	})
}
