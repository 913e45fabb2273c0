package ladder

import (
	"errors"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/label"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// probePolicy allows Main and Probe what it denies to everybody else.
const probePolicy = `
  rules:
  - name: web
    processes: [{origins: [Main, Probe]}]
    egress: [{toCIDR: [SERVER4/32], toPorts: [{ports: [{port: "OPEN", protocol: TCP}]}]}]
  - name: shells
    processes: [{origins: [Exec]}]
    action: Deny
`

// TestProbes holds that who joins a container with the arguments of one of its probes is Probe, as is what it starts,
// and everybody else Exec.
func TestProbes(t *testing.T) {
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		c, other := r.container(t, "web"), r.container(t, "web")
		r.swap(t, probePolicy)
		argv := func(line string) []string { return append([]string{r.program}, strings.Fields(r.fill(line))...) }
		const plain, forks = "-- connect-tcp SERVER4 OPEN", "fork -- connect-tcp SERVER4 OPEN"
		long := plain + strings.Repeat(" x", 300)
		set := func(c *pod.Container, want error, lines ...string) {
			t.Helper()
			var commands [][]string
			for _, line := range lines {
				commands = append(commands, argv(line))
			}
			if err := r.labels.SetProbes(c.ID, commands); !errors.Is(err, want) {
				t.Errorf("setting %d probes: %v, want %v", len(lines), err, want)
			}
		}
		origin := func(line, want string, expected event.Origin) {
			t.Helper()
			r.events.Reset()
			r.expect(t, c, line, want)
			judged := r.events.Wait(t, "the call", func(e event.Event) bool {
				return e.Kind == event.KindConnect && e.Subject.Container == c.ID
			})
			if judged.Subject.Origin != expected || judged.Subject.Session == 0 && expected != event.OriginMain {
				t.Errorf("%s: the caller is %+v, want origin %d", line, judged.Subject, expected)
			}
		}
		set(c, label.ErrProbes, long, plain, forks) // what is too long takes no slot
		origin(plain, "ok", event.OriginMain)       // the first of a container is its main program, whatever its arguments
		origin(plain, "ok", event.OriginProbe)
		origin(forks, "ok", event.OriginProbe)
		origin(plain+" 1000", "EPERM", event.OriginExec)
		origin("double-fork "+plain, "EPERM", event.OriginExec)
		r.expect(t, other, plain, "ok") // Main
		r.expect(t, other, plain, "EPERM")
		set(c, nil, forks)
		origin(forks, "ok", event.OriginProbe)
		origin(plain, "EPERM", event.OriginExec)
		set(c, label.ErrProbes, plain+" 1", plain+" 2", plain+" 3", plain+" 4", plain+" 5", plain+" 6", plain+" 7", plain+" 1000", plain)
		origin(plain+" 1000", "ok", event.OriginProbe) // the last slot
		origin(plain, "EPERM", event.OriginExec)       // one too many
		set(c, nil)
		origin(plain+" 1000", "EPERM", event.OriginExec)
	})
}
