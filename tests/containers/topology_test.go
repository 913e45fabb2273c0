// Package containers holds the tests of runtime/... against a real containerd with runc, and in real network namespaces.
// They need root, and Debian's packages containerd, runc and busybox-static.
package containers

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/runtime/netns"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
)

// envSleep makes this program sleep, as a process for the tests to look at.
const envSleep = "SALLYPORT_TEST_SLEEP"

func TestMain(m *testing.M) {
	if os.Getenv(envSleep) != "" {
		time.Sleep(time.Hour)
		return
	}
	inventory.Main(m)
}

func TestNetReachesItsServers(t *testing.T) {
	for name, options := range map[string]testutil.NetOptions{"own node": {}, "machine as node": {HostNode: true}} {
		t.Run(name, func(t *testing.T) {
			n := testutil.NewNet(t, options)
			n.Echo.ExpectNone(t)
			for _, network := range []string{"tcp", "udp"} {
				for _, server := range []netip.Addr{n.ServerAddr, n.ServerAddr6} {
					message := fmt.Sprintf("hello over %s to %s", network, server)
					n.Pod.Do(t, func() error { return roundTrip(network, netip.AddrPortFrom(server, testutil.EchoPort), message) })
					if !slices.ContainsFunc(n.Echo.Contacts(), func(c testutil.Contact) bool {
						from := c.Remote.Addr() == n.PodAddr || c.Remote.Addr() == n.PodAddr6
						return c.Protocol == network && c.Local.Addr() == server && from && c.Data == message
					}) {
						t.Errorf("%q is not among the contacts: %v", message, n.Echo.Contacts())
					}
				}
			}
			if got := len(n.Echo.Contacts()); got != 4 {
				t.Errorf("%d contacts were recorded, want 4", got)
			}
			n.Echo.Reset()
			n.Echo.ExpectNone(t)
		})
	}
}

func roundTrip(network string, to netip.AddrPort, message string) error {
	conn, err := net.DialTimeout(network, to.String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(message)); err != nil {
		return err
	}
	buffer := make([]byte, len(message)+1)
	n, err := conn.Read(buffer)
	if err == nil && string(buffer[:n]) != message {
		err = fmt.Errorf("the echo is %q", buffer[:n])
	}
	return err
}

// podProcess starts a process in the pod's namespace and returns its PID.
func podProcess(t *testing.T, n *testutil.Net) uint32 {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envSleep+"=1")
	n.Pod.Start(t, cmd)
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
	})
	return uint32(cmd.Process.Pid)
}

func TestInspectFindsTheGate(t *testing.T) {
	n := testutil.NewNet(t, testutil.NetOptions{HostNode: true})
	own, err := netns.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	found, err := netns.Inspect(podProcess(t, n))
	if err != nil {
		t.Fatal(err)
	}
	if found.Inode != n.Pod.Inode(t) {
		t.Errorf("inode is %d, want %d", found.Inode, n.Pod.Inode(t))
	}
	var cookie uint64
	n.Pod.Do(t, func() (err error) { cookie, err = netns.Cookie(); return err })
	if found.Cookie != cookie || cookie == own || cookie == 0 {
		t.Errorf("cookie is %d; inside it is %d, outside %d", found.Cookie, cookie, own)
	}
	at := slices.IndexFunc(found.Links, func(l netns.Link) bool { return l.Name == "eth0" })
	if at < 0 {
		t.Fatalf("no eth0 among %+v", found.Links)
	}
	eth0 := found.Links[at]
	if eth0.Kind != "veth" || !eth0.PeerLocal || eth0.PeerIndex != n.Gate.Attrs().Index || n.Gate.Attrs().ParentIndex != eth0.Index {
		t.Errorf("eth0 is %+v, and its other end %d with peer %d", eth0, n.Gate.Attrs().Index, n.Gate.Attrs().ParentIndex)
	}
	for _, want := range []string{n.PodAddr.String() + "/29", n.PodAddr6.String() + "/64"} {
		if !slices.Contains(eth0.Addresses, netip.MustParsePrefix(want)) {
			t.Errorf("%s is not among eth0's addresses %v", want, eth0.Addresses)
		}
	}
	if after, err := netns.Cookie(); err != nil || after != own {
		t.Errorf("after Inspect the own cookie is %d, %v; it was %d", after, err, own)
	}
	addresses, err := netns.HostAddresses()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(addresses, netip.PrefixFrom(n.NodeAddr, 29)) || slices.Contains(addresses, netip.PrefixFrom(n.PodAddr, 29)) {
		t.Errorf("the node's addresses are %v", addresses)
	}
}

func TestInspectOfAPeerElsewhere(t *testing.T) {
	n := testutil.NewNet(t, testutil.NetOptions{}) // the other end is in a third namespace
	found, err := netns.Inspect(podProcess(t, n))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range found.Links {
		if l.PeerLocal || l.Name == "eth0" && l.PeerNetnsID == netns.NoPeerNetNS {
			t.Errorf("%+v is taken for a link to this namespace", l)
		}
	}
}

func TestInspectOfAProcessThatIsGone(t *testing.T) {
	testutil.RequireRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if found, err := netns.Inspect(uint32(cmd.Process.Pid)); err == nil || !strings.Contains(err.Error(), "inspecting the network namespace") {
		t.Errorf("got %+v, %v; want an error", found, err)
	}
}

func TestInspectDoesNotLeaveThreadsBehind(t *testing.T) {
	n := testutil.NewNet(t, testutil.NetOptions{})
	pid := podProcess(t, n)
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, err := netns.Inspect(pid); err != nil {
			t.Fatal(err)
		}
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		link, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net")
		if err == nil && link != own {
			t.Errorf("thread %s is in %s, not in %s", task.Name(), link, own)
		}
	}
}
