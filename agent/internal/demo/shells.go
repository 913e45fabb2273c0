package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
)

// attempt is one thing a shell tries.
type attempt struct {
	name string
	line string // what is typed
	came string // what the servers outside see when it works; "": the exit code tells
	peer string // as events write it
}

// attempts are by TCP, UDP, ICMP and over IPv6.
func attempts(n *network) []attempt {
	host := n.outside.Addr()
	return []attempt{
		{"TCP", fmt.Sprintf("timeout 3 wget -O - http://%s/shell", n.outside), "/shell", n.outside.String() + "/TCP"},
		{"TCP over IPv6", fmt.Sprintf("timeout 3 wget -O - http://%s/shell6", n.outside6), "/shell6", n.outside6.String() + "/TCP"},
		{"UDP", fmt.Sprintf("timeout 3 nslookup -type=a demo.example %s", host), "udp", fmt.Sprintf("%s:%d/UDP", host, udpPort)},
		{"ICMP", fmt.Sprintf("ping -c 1 -W 3 %s", host), "", host.String() + "/ICMP"},
	}
}

// worked reports whether the attempt reached the outside.
func (a *attempt) worked(n *network, before int, output string) bool {
	if a.came != "" {
		return n.count(a.came) > before
	}
	return strings.Contains(output, "exit=0")
}

// mainReaches waits until the main program has been seen outside, again.
func (s *show) mainReaches(ctx context.Context, n *network) error {
	before := n.count("/main")
	err := wait(ctx, "the main program's request", func() error {
		if got := n.count("/main"); got <= before {
			return fmt.Errorf("the server outside saw %d requests of it", got)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w\nthe main program wrote: %s", err, s.tail("main"))
	}
	s.step("  the main program reaches http://%s/", n.outside)
	return nil
}

// shellsWithoutPolicy shows that everything works while no policy forbids it: else the rest proves
// nothing.
func (s *show) shellsWithoutPolicy(ctx context.Context, b *box, n *network) error {
	s.step("without a policy: ctr task exec %s /bin/sh", containerID)
	var errs []error
	for _, a := range attempts(n) {
		before := n.count(a.came)
		out := b.shell(ctx, a.line)
		if !a.worked(n, before, out) {
			errs = append(errs, fmt.Errorf("%s did not work without a policy: %s", a.name, out))
			continue
		}
		s.step("  %-14s works: %s", a.name, a.line)
	}
	return errors.Join(errs...)
}

// shellsWithPolicy shows the same attempts stopped: by the error that the shell prints, by what the
// servers outside did not see, by the events, and by the lines that rsyslogd wrote.
func (s *show) shellsWithPolicy(ctx context.Context, r *running, b *box, n *network, f *syslogFile) error {
	fmt.Fprintf(s.out, "\n%s\n", policyText)
	s.step("the policy above is written to the agent's directory")
	if err := r.enforce(ctx); err != nil {
		return err
	}
	if err := s.mainReaches(ctx, n); err != nil {
		return err
	}
	s.step("with the policy: ctr task exec %s /bin/sh", containerID)
	var errs []error
	for _, a := range attempts(n) {
		before := n.count(a.came)
		out := b.shell(ctx, a.line)
		if a.worked(n, before, out) || !strings.Contains(out, "Operation not permitted") {
			errs = append(errs, fmt.Errorf("%s was not denied with EPERM: %s", a.name, out))
			continue
		}
		s.step("  %-14s denied: %s", a.name, lineWith(out, "Operation not permitted"))
	}
	errs = append(errs, s.told(ctx, r, n, f))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := s.mainReaches(ctx, n); err != nil {
		return err
	}
	s.step("done: all of it was observed")
	return nil
}

// told waits for the events of all denials, and for their lines in the syslog.
func (s *show) told(ctx context.Context, r *running, n *network, f *syslogFile) error {
	for _, a := range attempts(n) {
		err := wait(ctx, "the event of "+a.name, func() error {
			for _, e := range r.denials() {
				if strings.Contains(e.GetMessage(), a.peer) && strings.Contains(e.GetMessage(), "by Exec") {
					s.step("  event: %s", e.GetMessage())
					return nil
				}
			}
			return fmt.Errorf("not among the %d denials so far: %s", len(r.denials()), messages(r.denials()))
		})
		if err != nil {
			return err
		}
		err = wait(ctx, "rsyslogd's line of "+a.name, func() error {
			text, err := os.ReadFile(f.path)
			if err != nil {
				return err
			}
			line := lineWith(string(text), `peer="`+strings.ReplaceAll(a.peer, "]", `\]`)+`"`, `verdict="Deny"`, `origin="Exec"`)
			if line == "" {
				return errors.New("it has not been written")
			}
			s.step("  syslog: %s", line)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lineWith returns the first line that holds all parts.
func lineWith(text string, parts ...string) string {
next:
	for line := range strings.Lines(text) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		return strings.TrimSpace(line)
	}
	return ""
}

// messages lists what events say, for an error.
func messages(events []*apiv1.Event) string {
	lines := make([]string, len(events))
	for i, e := range events {
		lines[i] = e.GetMessage()
	}
	return strings.Join(lines, "; ")
}
