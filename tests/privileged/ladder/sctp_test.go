package ladder

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
)

// hasSCTP says whether the kernel has SCTP. The kernels of the VM tier must.
func hasSCTP(t *testing.T) bool {
	t.Helper()
	err := testutil.SCTP()
	if err != nil && testutil.InVM() {
		t.Fatal(err)
	}
	return err == nil
}

// sctpAttempts is every attempt over SCTP. The servers of both pods get one for it.
func (r *rig) sctpAttempts(t *testing.T, free *freePod) []attempt {
	t.Helper()
	if !hasSCTP(t) {
		t.Log("SCTP is tested on the kernels of the VM tier")
		return nil
	}
	for _, pod := range []*rig{r, free.rig} {
		pod.open.ServeSCTP(t, pod.net.Server,
			netip.AddrPortFrom(pod.net.ServerAddr, openPort), netip.AddrPortFrom(pod.net.ServerAddr6, openPort))
	}
	return []attempt{
		{line: "connect-sctp SERVER4 OPEN", contacts: 1},
		{line: "connect-sctp SERVER6 OPEN", contacts: 1},
		{line: "connect-sctp ::ffff:SERVER4 OPEN", contacts: 1},
		{line: "sendto-sctp SERVER4 OPEN", contacts: 1},
		{line: "sendto-sctp SERVER6 OPEN", contacts: 1},
		{line: "sendto-sctp-one SERVER4 OPEN", contacts: 1},
		{line: "connectx-sctp SERVER4 OPEN", contacts: 1},
		{line: "connectx-sctp SERVER6 OPEN", contacts: 1},
		{line: "socket inet raw sctp", main: "EPERM"},
		{line: "listen-sctp POD4 4000"},
		{line: "bindx-sctp POD4 4000"},
	}
}

// TestServeSCTP holds for servers over SCTP what TestServe does for others. An accepted association belongs to its
// listener's process, and falls silent when a policy ends it.
func TestServeSCTP(t *testing.T) {
	if !hasSCTP(t) {
		t.Log("SCTP is tested on the kernels of the VM tier")
		return
	}
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newRig(t, step)
		policy := strings.ReplaceAll(serverPolicy, "protocol: TCP", "protocol: SCTP")
		to := netip.AddrPortFrom(r.net.PodAddr, 4000)
		for _, line := range []string{"listen-sctp POD4 4000 6000", "bindx-sctp POD4 4000 6000", "listen-sctp :: 4000 6000"} {
			t.Run(line, func(t *testing.T) {
				c := r.container(t, "web")
				r.swap(t, policy)
				p := r.victim(c, line)
				p.Start(t)
				var conn net.Conn
				testutil.Eventually(t, "the association", func() error { // the server may not listen yet
					return r.net.Server.Try(func() (err error) {
						conn, err = testutil.DialSCTP(to, 1000)
						return err
					})
				})
				defer func() { _ = conn.Close() }() // the answers are what counts
				if err := asked(conn, patient); err != nil {
					t.Error(err)
				}
				r.swap(t, strings.ReplaceAll(denyMain, "VERDICT", "Deny"))
				if err := asked(conn, time.Second); err == nil {
					t.Error("the server answers though it may not")
				}
				_ = p.Process.Kill() // it would wait for more
				p.Result()
			})
		}
		t.Run("other peer", func(t *testing.T) {
			c := r.container(t, "web")
			r.swap(t, policy)
			p := r.victim(c, "listen-sctp POD4 4000 4000")
			p.Start(t)
			r.events.Wait(t, "the server", func(e event.Event) bool { return e.Subject.Container == c.ID && e.Call == listening(step) })
			if err := r.net.Node.Try(func() error {
				conn, err := testutil.DialSCTP(to, 1000)
				if err == nil {
					err = conn.Close()
				}
				return err
			}); err == nil {
				t.Error("a peer that may not come was let in")
			}
			if got := outcome(t, p); got != "ETIMEDOUT" {
				t.Errorf("the server got %s, want ETIMEDOUT: nobody came", got)
			}
		})
	})
}

// patient is how long an answer that must come may take.
const patient = 10 * time.Second

// asked sends a word and wants it back.
func asked(conn net.Conn, within time.Duration) error {
	const word = "knock"
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, len(word)))
	return err
}

// TestListWithoutGate holds that where no gate judges packets, a peer with several addresses needs a rule for all peers.
func TestListWithoutGate(t *testing.T) {
	if !hasSCTP(t) {
		t.Log("SCTP is tested on the kernels of the VM tier")
		return
	}
	onEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		r := newBareRig(t, step)
		_, r.judge = attached.Open(t, r.Node, r.cfg, []event.Step{step})
		r.open.ServeSCTP(t, r.net.Server, netip.AddrPortFrom(r.net.ServerAddr, openPort))
		for line, want := range map[string]string{
			"connectx-sctp SERVER4 OPEN 3000":           "ok",
			"connectx-sctp SERVER4 OPEN 3000 192.0.2.1": "EPERM",
			"connectx-sctp SERVER4 CLOSED 3000":         "EPERM",
		} {
			c := r.container(t, "web")
			r.swap(t, webPolicy)
			r.expect(t, c, line, want)
		}
	})
}
