package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/victim"
)

// syslogd starts a real rsyslogd with a socket and a file of the test's own, before the agent, which it makes write there.
func (s *scene) syslogd(t *testing.T) (lines func() []string) {
	t.Helper()
	path, err := testutil.LookPath("rsyslogd")
	if err != nil {
		testutil.Unsupported(t, "rsyslogd", err.Error())
	}
	socket, file := s.agent.Path("log.sock"), s.agent.Path("syslog")
	text := fmt.Sprintf(`module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket=%q CreatePath="on" UseSpecialParser="off" ParseHostname="on" RateLimit.Interval="0")
template(name="whole" type="string" string="%%app-name%%[%%syslogseverity-text%%] %%structured-data%% %%msg%%\n")
action(type="omfile" file=%q template="whole")
`, socket, file)
	check(t, os.WriteFile(s.agent.Path("rsyslog.conf"), []byte(text), 0o600))
	daemon, err := testutil.StartDaemon(testutil.DaemonSpec{
		Cmd: exec.Command(path, "-n", "-f", s.agent.Path("rsyslog.conf"), "-i", s.agent.Path("rsyslogd.pid")),
	})
	check(t, err)
	t.Cleanup(func() { check(t, daemon.Stop(syscall.SIGKILL)) })
	testutil.Eventually(t, "rsyslogd listens", func() error {
		_, err := os.Stat(socket)
		return err
	})
	s.agent.conf.alerts = fmt.Sprintf("{jsonl: {path: %s}, syslog: {enabled: true, address: %s}}", s.agent.Path("alerts.jsonl"), socket)
	return func() []string {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		return strings.Split(string(text), "\n")
	}
}

// TestDrift writes programs in a container as a session would, over an overlay as images have them, and runs them: what they do
// is told with that, and that Main runs one is a critical alert. So the files of the image are told from what was written since by
// what the runtime really mounts.
func TestDrift(t *testing.T) {
	s := newScene(t)
	lines := s.syslogd(t)
	s.agent.conf.extra = "visibility: {exec: true}"
	s.containerd.Image(t, image, testutil.File{Path: "/bin/victim", Source: victim.Build(t)}, testutil.File{Path: "/opt/tool", Source: victim.Build(t)})
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web := s.containerd.Run(t, testutil.RunSpec{
		ID: "web", Image: image, NetNS: s.net.Pod.Path(), Labels: map[string]string{"app": "web"}, Snapshotter: "overlayfs",
		Args: []string{"sh", "-c", "until [ -e /go ]; do sleep 0.1; done; /bin/victim; /var/busybox-planted true; sleep 1000"},
	})
	s.agent.awaitGoverned(t, "web")
	connect := strings.TrimPrefix(s.connect(forbiddenPort), "victim")
	script := strings.Join([]string{
		"cp /bin/victim /var/copied", "/var/copied" + connect, "echo >>/opt/tool", "/opt/tool" + connect, "/bin/victim" + connect,
		"cp /bin/busybox /var/busybox-planted", "touch /go",
	}, "; ")
	web.Exec(t, "sh", "-c", script)
	for _, want := range []struct {
		kind, origin, binary, severity string
		drifted                        bool
	}{
		{"connect", "Exec", "/var/copied", "crit", true},
		{"connect", "Exec", "/opt/tool", "crit", true},
		{"connect", "Exec", "/bin/victim", "crit", false},
		{"exec", "Main", "/var/busybox-planted", "crit", true},
	} {
		var line string
		testutil.Eventually(t, want.binary+" in the syslog", func() error {
			for _, line = range lines() {
				if strings.Contains(line, fmt.Sprintf(`kind="%s"`, want.kind)) && strings.Contains(line, fmt.Sprintf(`binary="%s"`, want.binary)) {
					return nil
				}
			}
			return fmt.Errorf("not in %q", lines())
		})
		drifted := strings.Contains(line, ` drifted="true"`)
		if drifted != want.drifted || !strings.HasPrefix(line, "sallyport["+want.severity+"]") || !strings.Contains(line, fmt.Sprintf(`origin="%s"`, want.origin)) {
			t.Errorf("the syslog says of %+v: %s", want, line)
		}
	}
	for _, line := range lines() {
		if strings.Contains(line, `kind="exec"`) && !strings.Contains(line, `binary="/var/busybox-planted"`) {
			t.Errorf("an alert of a program of the image, or of a session's own: %s", line)
		}
	}
	told := map[string]bool{}
	for _, e := range s.agent.Observe(t, "--container", "web") {
		if e.Kind == "exec" {
			told[e.Origin+" "+e.Binary] = e.Drifted
		}
	}
	for what, drifted := range map[string]bool{
		"Main /bin/victim": false, "Main /var/busybox-planted": true, "Exec /bin/victim": false, "Exec /var/copied": true, "Exec /opt/tool": true,
	} {
		if got, ok := told[what]; !ok || got != drifted {
			t.Errorf("that %s has drifted is told as %t (told at all: %t)", what, got, ok)
		}
	}
	s.forbidden.ExpectNone(t)
}
