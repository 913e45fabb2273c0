package syslog

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rsyslogd is a real rsyslogd with a configuration, files and ports of its own. It writes one line
// for each message, of the parts it parsed.
type rsyslogd struct {
	folder  string
	address string // where it listens: host:port or a path
	config  string
	log     string
	running *exec.Cmd
	output  *bytes.Buffer
}

// requireRsyslogd skips the test where it cannot run; with REQUIRE_PRIVILEGED=1 that is a failure.
// Root is required so that these tests belong to the privileged tier: a distribution may confine
// rsyslogd to its own folders.
func requireRsyslogd(t *testing.T, modules ...string) {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("REQUIRE_PRIVILEGED") == "1" {
		skip = t.Fatalf
	}
	if os.Geteuid() != 0 {
		skip("needs root")
	}
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		skip("needs rsyslogd (Debian package rsyslog): %v", err)
	}
	for _, module := range modules {
		if found, err := filepath.Glob("/usr/lib/*/rsyslog/" + module + ".so"); err != nil || len(found) == 0 {
			skip("needs rsyslogd's module %s (Debian package rsyslog-gnutls)", module)
		}
	}
}

// newRsyslogd makes one that is not started. ADDRESS, PORT and FOLDER in inputs are replaced.
func newRsyslogd(t *testing.T, address, inputs string) *rsyslogd {
	t.Helper()
	folder := t.TempDir()
	r := &rsyslogd{
		folder: folder, address: address,
		config: filepath.Join(folder, "rsyslog.conf"), log: filepath.Join(folder, "received"),
	}
	if address == "" {
		r.address = filepath.Join(folder, "log")
	}
	_, port, _ := net.SplitHostPort(r.address)
	inputs = strings.NewReplacer("ADDRESS", r.address, "PORT", port, "FOLDER", folder).Replace(inputs)
	text := fmt.Sprintf(`global(workDirectory=%q maxMessageSize="16k")
%s
template(name="parts" type="string" string="%%syslogpriority-text%%\t%%syslogfacility-text%%\t%%hostname%%\t%%app-name%%\t%%msgid%%\t%%structured-data%%\t%%msg%%\n")
action(type="omfile" file=%q template="parts")
`, folder, inputs, r.log)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *rsyslogd) start(t *testing.T) {
	t.Helper()
	r.output = &bytes.Buffer{}
	r.running = exec.Command("rsyslogd", "-n", "-f", r.config, "-i", filepath.Join(r.folder, "pid"))
	r.running.Stdout, r.running.Stderr = r.output, r.output
	if err := r.running.Start(); err != nil {
		t.Fatal(err)
	}
}

// stop ends it as an operator would, and waits until it has written what it got.
func (r *rsyslogd) stop(t *testing.T) {
	t.Helper()
	if r.running == nil {
		return
	}
	ended := make(chan error, 1)
	go func() { ended <- r.running.Wait() }()
	if err := r.running.Process.Signal(unix.SIGTERM); err != nil {
		t.Errorf("stopping rsyslogd: %v", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = r.running.Process.Kill()
		t.Errorf("rsyslogd did not end: %v, %s", <-ended, r.output)
	}
	if t.Failed() && r.output.Len() > 0 {
		t.Logf("rsyslogd said: %s", r.output)
	}
	r.running = nil
}

// received is one message as rsyslogd parsed it.
type received struct {
	priority, facility, hostname, appName, msgID, data, message string
}

// lines are the messages that were received so far, without rsyslogd's own.
func (r *rsyslogd) lines(t *testing.T) []received {
	t.Helper()
	text, err := os.ReadFile(r.log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []received
	for line := range strings.Lines(string(text)) {
		parts := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(parts) != 7 {
			t.Fatalf("rsyslogd wrote %q", line)
		}
		if parts[3] == "rsyslogd" {
			continue
		}
		all = append(all, received{parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6]})
	}
	return all
}

// param reads one parameter of the structured data that rsyslogd wrote, unescaped.
func (m received) param(name string) string {
	_, rest, ok := strings.Cut(m.data, " "+name+`="`)
	if !ok {
		return ""
	}
	var value strings.Builder
	for i := 0; i < len(rest) && rest[i] != '"'; i++ {
		if rest[i] == '\\' {
			i++
		}
		value.WriteByte(rest[i])
	}
	return value.String()
}

// freePort is a port of loopback that nobody has right now.
func freePort(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		on, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = on.Close() }()
		return on.LocalAddr().String()
	}
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = on.Close() }()
	return on.Addr().String()
}

// await waits until done says so.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}

// number reads a count, 0 where there is none.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
