package daemon

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/agent/internal/alert/jsonl"
	"github.com/sallyport/sallyport/agent/internal/alert/syslog"
	"github.com/sallyport/sallyport/agent/internal/api"
	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/agent/internal/metrics"
	"github.com/sallyport/sallyport/agent/internal/tunnel"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/tell"
	"github.com/sallyport/sallyport/runtime/cgroup"
)

// tellParts makes what events go to.
func (a *agent) tellParts(log logrus.FieldLogger) error {
	sinks, err := openSinks(a.cfg.Alerts)
	if err != nil {
		return err
	}
	if a.fanout, err = alert.NewFanout(alert.Config{Log: log, Queue: a.cfg.Alerts.Queue}, sinks...); err != nil {
		return err
	}
	a.metrics, err = metrics.New(metrics.Config{
		Log: log, Version: api.Build().GetVersion(), Sinks: a.fanout.Stats,
		Containers:   func() int { return a.registry.Stats().Containers },
		Sessions:     func() int { return a.registry.Stats().Sessions },
		KernelErrors: func() (map[string]uint64, error) { return tell.ReadCounters(a.kernel) },
		Revision:     func() uint64 { return a.engine.snapshot().revision },
		Stale:        func() (time.Duration, bool) { return a.engine.cluster.age() },
	})
	return err
}

// openSinks opens the configured sinks. One that cannot be opened is the operator's error, told at
// start, rather than alerts that go nowhere.
func openSinks(cfg config.Alerts) (sinks []alert.Sink, err error) {
	defer func() {
		if err != nil {
			for _, s := range sinks {
				err = errors.Join(err, s.Close())
			}
		}
	}()
	if c := cfg.JSONL; c.Enabled {
		j := jsonl.Config{Path: c.Path, MaxSizeMB: c.MaxSizeMB, MaxBackups: c.MaxBackups, MaxAgeDays: c.MaxAgeDays}
		if c.Path == config.PathStdout {
			j = jsonl.Config{Stream: os.Stdout}
		}
		s, err := jsonl.New(j)
		if err != nil {
			return sinks, fmt.Errorf("opening the JSON lines sink: %w", err)
		}
		sinks = append(sinks, s)
	}
	if c := cfg.Syslog; c.Enabled {
		facility, err := syslog.ParseFacility(c.Facility)
		if err != nil {
			return sinks, fmt.Errorf("opening the syslog sink: %w", err)
		}
		s, err := syslog.New(syslog.Config{
			Network: syslog.Network(c.Network), Address: c.Address, Facility: facility, AppName: c.AppName, EnterpriseID: uint32(c.EnterpriseID), // config bounds it
			TLS: syslog.TLSConfig{CAFile: c.TLS.CA, CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, ServerName: c.TLS.ServerName},
		})
		if err != nil {
			return sinks, fmt.Errorf("opening the syslog sink: %w", err)
		}
		sinks = append(sinks, s)
	}
	return sinks, nil
}

// handle takes one event from the kernel: it never blocks.
func (a *agent) handle(e event.Event) {
	if e.Kind == event.KindCgroup {
		a.engine.kernelCgroup(e)
	}
	if e.Kind == event.KindLost && tell.Lost(e.Site) {
		a.engine.missedNews()
	}
	if e.Unit {
		return // for the engine alone: it says what becomes of it
	}
	if e.Verdict == event.VerdictKill && e.Step == event.StepCgroup {
		a.kill(&e)
	}
	if e.Socket != 0 {
		a.endings.push(&e)
	}
	if e.Kind == event.KindExec || e.Kind == event.KindSessionStart {
		a.taps.executed(&e)
	}
	if (e.Kind == event.KindExec || e.Kind == event.KindExit) && !a.cfg.Visibility.Exec {
		return // told for the taps alone
	}
	a.publish(e)
	if found, ok := a.tunnels.Observe(&e); ok {
		a.publish(found)
	}
}

// tunnelsOf is what the configuration says of DNS tunnels.
func tunnelsOf(c config.Tunnel) tunnel.Config {
	return tunnel.Config{Names: c.Names, Entropy: float64(c.Entropy), Window: c.Window, Except: c.Except}
}

// publish hands an event on with its names.
func (a *agent) publish(e event.Event) {
	a.metrics.Observe(&e)
	record := a.registry.Join(e)
	record.PeerName = a.peerName(&e)
	a.feed.Publish(record)
	if record.Important() {
		a.fanout.Publish(record)
	}
}

// peerName is what the container of an event calls the peer that it goes to.
func (a *agent) peerName(e *event.Event) string {
	switch e.Call {
	case event.CallConnect, event.CallSendmsg, event.CallPacketOut:
		if e.Subject.Container != 0 && e.Remote.Addr().IsValid() {
			if e.Kind == event.KindRequest && e.Verdict == event.VerdictAllow {
				return a.peers.of(e.Subject.Container, e.Remote.Addr(), e.Time)
			}
			return a.names.PeerName(e.Subject.Container, e.Remote.Addr())
		}
	case event.CallNone, event.CallBind, event.CallListen, event.CallAccept, event.CallSocket, event.CallPacketIn, event.CallTrace, event.CallReceive,
		event.CallSignal, event.CallLimit, event.CallBPF, event.CallOption, event.CallLocal:
	}
	return ""
}

// kill ends a process whose call was denied with the verdict Kill by a cgroup program, which cannot
// send signals itself. The call has failed already, so an error here opens nothing. The pid may have
// gone to another process by now: only one inside the container is killed.
func (a *agent) kill(e *event.Event) {
	log := a.log.WithFields(logrus.Fields{"pid": e.Subject.PID, "container": e.Subject.Container})
	fd, err := unix.PidfdOpen(int(e.Subject.PID), 0)
	if err != nil {
		return // it ended
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	text, err := os.ReadFile(fmt.Sprintf("%s/%d/cgroup", procDir, e.Subject.PID))
	if err != nil {
		return // it ended
	}
	path, err := cgroup.Parse(string(text))
	if err != nil {
		log.WithError(err).Warn("process of verdict Kill was not killed: its cgroup cannot be read")
		return
	}
	own, err := a.cgroups.Path(e.Subject.Container)
	if err != nil || !cgroup.Within(path, own) {
		log.Warn("process of verdict Kill was not killed: it is not in its container any more")
		return
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		log.WithError(err).Warn("process of verdict Kill was not killed")
	}
}
