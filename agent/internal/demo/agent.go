package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sallyport/sallyport/agent/internal/api"
	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/agent/internal/daemon"
	"github.com/sallyport/sallyport/agent/internal/logging"
)

// policyText is what the demo enforces. It is shown before it takes effect.
const policyText = `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: ` + containerdNamespace + `}
spec:
  podSelector: {matchLabels: {app: web}}
  rules:
  - name: main-fetches
    processes: [{origins: [Main]}]
    egress:
    - toCIDR: [192.0.2.6/32]
      toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
  - name: shells-stay-inside
    processes: [{origins: [Exec]}]
    action: Deny
    onViolation: {alert: critical}
`

// syslogFile is where rsyslogd writes.
type syslogFile struct{ socket, path string }

// syslog starts rsyslogd with one socket and one file. Its input for local sockets takes the old form
// of syslog unless told otherwise.
func (s *show) syslog(ctx context.Context) (*syslogFile, error) {
	f := &syslogFile{socket: s.path("log.sock"), path: s.path("syslog")}
	text := fmt.Sprintf(`module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket=%q CreatePath="on" UseSpecialParser="off" ParseHostname="on" RateLimit.Interval="0")
template(name="whole" type="string" string="%%timestamp:::date-rfc3339%% %%hostname%% %%app-name%%[%%syslogseverity-text%%] %%structured-data%% %%msg%%\n")
action(type="omfile" file=%q template="whole")
`, f.socket, f.path)
	if err := os.WriteFile(s.path("rsyslog.conf"), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configuring rsyslogd: %w", err)
	}
	if err := s.start("rsyslogd", "-n", "-f", s.path("rsyslog.conf"), "-i", s.path("rsyslogd.pid")); err != nil {
		return nil, err
	}
	err := wait(ctx, "rsyslogd", func() error {
		_, err := os.Stat(f.socket)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.tail("rsyslogd"))
	}
	return f, nil
}

// running is the agent, and what it has told an observer so far.
type running struct {
	show   *show
	client *api.Client

	mu     sync.Mutex
	events []*apiv1.Event
}

// agent runs the agent in this process, with a configuration of the demo's own, and observes it.
func (s *show) agent(ctx context.Context, steps []config.Step, b *box, f *syslogFile) (*running, error) {
	cfg := config.Default()
	cfg.Policies.Dir = s.path("policies")
	cfg.Kernel.BPFFS = s.path("bpf")
	cfg.Runtime.Containerd.Socket = b.socket
	cfg.Runtime.NRI.Enabled = config.PresenceNever // that would be the machine's own runtime
	cfg.Runtime.ContainerParents = []string{"/" + containerdNamespace}
	cfg.Alerts.JSONL.Path = s.path("alerts.jsonl")
	cfg.Alerts.Syslog.Enabled, cfg.Alerts.Syslog.Address = true, f.socket
	cfg.API.Socket = s.path("api/sallyport.sock")
	cfg.Log.Level = config.LevelWarn
	cfg.Enforcement.Steps = steps
	log, err := logging.New(cfg.Log, os.Stderr)
	if err != nil {
		return nil, err
	}
	runCtx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(runCtx, cfg, log) }()
	s.later(func() error {
		stop()
		return <-ended
	})
	r := &running{show: s}
	err = wait(ctx, "the agent", func() error {
		select {
		case err := <-ended:
			ended <- nil // told already
			return errors.Join(errors.New("it ended"), err)
		default:
		}
		if r.client == nil {
			client, err := api.Dial(ctx, cfg.API.Socket)
			if err != nil {
				return err
			}
			r.client = client
			s.later(client.Close)
		}
		_, err := r.client.Status(ctx, &apiv1.StatusRequest{})
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, r.observe(runCtx)
}

// observe collects what the agent tells, as sallyport observe -f would.
func (r *running) observe(ctx context.Context) error {
	stream, err := r.client.Observe(ctx, &apiv1.ObserveRequest{Follow: true})
	if err != nil {
		return fmt.Errorf("observing the agent: %w", err)
	}
	go func() { // ends with ctx
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			if e := m.GetEvent(); e != nil {
				r.mu.Lock()
				r.events = append(r.events, e)
				r.mu.Unlock()
			}
		}
	}()
	return nil
}

// denials lists the lines of what was denied so far.
func (r *running) denials() (out []*apiv1.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.GetRule() != "" && e.GetVerdict() > verdictAudit {
			out = append(out, e)
		}
	}
	return out
}

// verdictAudit is the strongest verdict that stops nothing (probes/event).
const verdictAudit = 2

// enforce writes the policy and waits until it is in force for the container.
func (r *running) enforce(ctx context.Context) error {
	file := r.show.path("policies/web.yaml")
	if err := os.WriteFile(file, []byte(policyText), 0o600); err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	return wait(ctx, "the policy to be in force", func() error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		status, err := r.client.Status(ctx, &apiv1.StatusRequest{})
		if err != nil {
			return err
		}
		for _, p := range status.GetPolicies() {
			if p.GetError() != "" {
				return errors.New(p.GetError())
			}
		}
		for _, w := range status.GetWorkloads() {
			if w.GetContainerId() == containerID && w.GetGoverned() && w.GetGateInterface() != "" {
				return nil
			}
		}
		return fmt.Errorf("workloads: %v", status.GetWorkloads())
	})
}
