package names

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/tests/testutil"
)

// Where Debian has the programs.
const (
	digPath     = "/usr/bin/dig"
	getentPath  = "/usr/bin/getent"
	unboundPath = "/usr/sbin/unbound"
)

// run runs a program, and returns what it printed.
func run(o order) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.Wait)
	defer cancel()
	return exec.CommandContext(ctx, o.Args[0], o.Args[1:]...).CombinedOutput() // the test's own program
}

// manyAddresses is how many there are for many.good.example: more than a datagram has room for.
const manyAddresses = 300

// unboundConfig answers for names of example, and says what it is asked. Its arguments: two addresses, local data, folder.
const unboundConfig = `
server:
  interface: %[1]s
  interface: %[2]s
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "%[4]s"
  pidfile: "%[4]s/pid"
  logfile: "%[4]s/log"
  use-syslog: no
  verbosity: 1
  log-queries: yes
  num-threads: 1
  local-zone: "example." static
%[3]s
remote-control:
  control-enable: no
`

// startUnbound starts unbound behind the node, and returns what says whether it was asked for a name.
func startUnbound(t *testing.T, s *scene) (wasAsked func(name string) bool) {
	t.Helper()
	var data strings.Builder
	local := func(name, kind string, addr netip.Addr) {
		fmt.Fprintf(&data, "  local-data: \"%s. 60 IN %s %s\"\n", name, kind, addr)
	}
	local("host.good.example", "A", s.ServerAddr)
	local("host.good.example", "AAAA", s.ServerAddr6)
	local("secret.bad.example", "A", s.ServerAddr)
	for i := range manyAddresses {
		local("many.good.example", "A", netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}))
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, fmt.Appendf(nil, unboundConfig, s.ServerAddr, s.ServerAddr6, data.String(), dir), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(unboundPath, "-d", "-c", config) // the test's own configuration
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	s.Server.Start(t, cmd)
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it never ends by itself
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("unbound said: %s", complaints.String())
		}
	})
	testutil.Eventually(t, "unbound listens", func() error {
		return s.Server.Try(func() error {
			conn, err := net.Dial("tcp", at(s.ServerAddr6, 53))
			if err != nil {
				return err
			}
			return conn.Close()
		})
	})
	return func(name string) bool {
		b, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), name)
	}
}

// newRealScene is a pod and an unbound. The programs have more libraries than guests need to carry for them: what they are
// here for does not depend on the kernel.
func newRealScene(t *testing.T) (s *scene, wasAsked func(string) bool) {
	t.Helper()
	if testutil.InVM() {
		t.Skip("dig and unbound are not in the guest; they run natively")
	}
	s = newPod(t, probes.Names{})
	return s, startUnbound(t, s)
}

// TestDig: what it is told over UDP, over TCP, and over TCP after a truncated answer, can be connected to; what it may not
// ask is REFUSED at once.
func TestDig(t *testing.T) {
	s, wasAsked := newRealScene(t)
	a := newInsider(t, s.a)
	dig := func(errno string, args ...string) string {
		t.Helper()
		r := a.want(t, errno, order{Do: "run", Args: append([]string{digPath, "+tries=1", "+time=20"}, args...), Wait: 30 * time.Second})
		return strings.TrimSpace(string(r.Bytes))
	}
	for _, resolver := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		server := "@" + resolver.String()
		for _, how := range []string{"+notcp", "+tcp", "+bufsize=1232", "+noedns"} {
			if got := dig("ok", server, how, "+short", "host.good.example", "A"); got != s.ServerAddr.String() {
				t.Errorf("%s %s: dig prints %q", server, how, got)
			}
			started := time.Now()
			got := dig("ok", server, how, "secret.bad.example", "A")
			if !strings.Contains(got, "status: REFUSED") || !strings.Contains(got, "ANSWER: 0") || strings.Contains(got, "error") {
				t.Errorf("%s %s: of a denied name dig prints %s", server, how, got)
			}
			if took := time.Since(started); took > patience {
				t.Errorf("%s %s: it took %v to hear of the denial", server, how, took)
			}
		}
		for _, how := range []string{"+tcp", "+bufsize=1232", "+bufsize=65000", "+noedns"} {
			if got := strings.Fields(dig("ok", server, how, "+short", "many.good.example", "A")); len(got) != manyAddresses {
				t.Errorf("%s %s: dig prints %d addresses", server, how, len(got))
			}
		}
		// One connection for several names, until one of them is denied.
		if got := dig("ok", server, "+tcp", "+keepopen", "+short", "host.good.example", "A", "host.good.example", "AAAA"); got != s.ServerAddr.String()+"\n"+s.ServerAddr6.String() {
			t.Errorf("%s: over one connection dig prints %q", server, got)
		}
	}
	for i := range manyAddresses {
		a.want(t, "ok", order{Do: "connect", Address: at(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 443)})
	}
	a.want(t, "ok", order{Do: "connect", Address: at(s.ServerAddr6, 443)})
	if wasAsked("secret.bad.example") {
		t.Error("a denied query arrived at the resolver")
	}
}

// TestResolverLibrary: the C library asks for both kinds of address at once, over UDP and over TCP.
func TestResolverLibrary(t *testing.T) {
	s, wasAsked := newRealScene(t)
	a := newInsider(t, s.a)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	configure := func(options string) {
		t.Helper()
		if err := os.WriteFile(conf, fmt.Appendf(nil, "nameserver %s\noptions %s\n", s.ServerAddr, options), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("")
	a.want(t, "ok", order{Do: "mount", Name: conf, Local: "/etc/resolv.conf"}) // in its own mount namespace
	for _, options := range []string{"timeout:20", "timeout:20 use-vc", "timeout:20 use-vc single-request"} {
		configure(options)
		for name, want := range map[string]int{"host.good.example": 2, "many.good.example": manyAddresses} {
			r := a.want(t, "ok", order{Do: "run", Args: []string{getentPath, "ahosts", name}, Wait: 30 * time.Second})
			if got := strings.Count(string(r.Bytes), " STREAM"); got != want {
				t.Errorf("%s: getent prints %d addresses of %s, want %d", options, got, name, want)
			}
		}
		started := time.Now()
		a.want(t, "exit status 2", order{Do: "run", Args: []string{getentPath, "ahosts", "secret.bad.example"}, Wait: 30 * time.Second})
		if took := time.Since(started); took > patience {
			t.Errorf("%s: it took %v to hear of the denial", options, took)
		}
		a.want(t, "ok", order{Do: "connect", Address: at(s.ServerAddr6, 443)})
	}
	if wasAsked("secret.bad.example") {
		t.Error("a denied query arrived at the resolver")
	}
}
