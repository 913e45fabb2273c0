package syslog

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/probes/event"
)

const (
	udpInput  = `module(load="imudp") input(type="imudp" address="127.0.0.1" port="PORT")`
	tcpInput  = `module(load="imtcp") input(type="imtcp" address="127.0.0.1" port="PORT")`
	unixInput = `module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="ADDRESS" UseSpecialParser="off" ParseHostname="on")`
	tlsInput = `module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/name" PermittedPeer="node-1")
input(type="imtcp" address="127.0.0.1" port="PORT")`
)

// scenario is a way to reach a real rsyslogd.
type scenario struct {
	name    string
	modules []string
	make    func(t *testing.T) (*rsyslogd, Config)
}

func scenarios() []scenario {
	return []scenario{
		{"unix", nil, func(t *testing.T) (*rsyslogd, Config) {
			t.Helper()
			server := newRsyslogd(t, "", unixInput)
			return server, Config{Network: Unix, Address: server.address}
		}},
		{"udp", nil, func(t *testing.T) (*rsyslogd, Config) {
			t.Helper()
			server := newRsyslogd(t, freePort(t, "udp"), udpInput)
			return server, Config{Network: UDP, Address: server.address}
		}},
		{"tcp", nil, func(t *testing.T) (*rsyslogd, Config) {
			t.Helper()
			server := newRsyslogd(t, freePort(t, "tcp"), tcpInput)
			return server, Config{Network: TCP, Address: server.address}
		}},
		{"tls", []string{"lmnsd_gtls"}, func(t *testing.T) (*rsyslogd, Config) {
			t.Helper()
			ca := newAuthority(t)
			cert, key := ca.issue(t, "logs.example")
			files := `global(DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="` + ca.file +
				`" DefaultNetstreamDriverCertFile="` + cert + `" DefaultNetstreamDriverKeyFile="` + key + `")` + "\n"
			server := newRsyslogd(t, freePort(t, "tcp"), files+tlsInput)
			clientCert, clientKey := ca.issue(t, "node-1")
			return server, Config{Network: TLS, Address: server.address, TLS: TLSConfig{
				CAFile: ca.file, CertFile: clientCert, KeyFile: clientKey, ServerName: "logs.example",
			}}
		}},
	}
}

// run starts a fan-out with one syslog sink; the returned function ends it.
func run(t *testing.T, queue int, cfg Config) (*alert.Fanout, func()) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	cfg.Hostname = "node-1"
	fanout, err := alert.NewFanout(alert.Config{
		Log: log, Queue: queue, RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond,
	}, open(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- fanout.Run(ctx) }()
	return fanout, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ending the fan-out: %v", err)
		}
	}
}

// numbered is a denial that carries a number to know it again by.
func numbered(i int) *alert.Record {
	r := denied("/bin/sh")
	r.Event.Subject.PID = uint32(i + 1)
	return r
}

func TestRsyslogdParsesWhatWeSend(t *testing.T) {
	hostile := []string{
		"/bin/sh",
		`/tmp/a"] [forged@32473 verdict="Allow"] b`,
		"/tmp/a\n<26>1 2026-11-20T19:13:28Z evil sallyport 1 connect - forged",
		"/tmp/a\x00\r\t\x1b[2J\xff\xfe\u202e日本\\",
		"memfd:" + strings.Repeat(`]"\`, 1300),
	}
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			requireRsyslogd(t, s.modules...)
			t.Parallel()
			server, cfg := s.make(t)
			server.start(t)
			fanout, stop := run(t, 0, cfg)
			for _, exe := range hostile {
				fanout.Publish(denied(exe))
			}
			await(t, "all arrived", func() bool { return len(server.lines(t)) >= len(hostile) })
			stop()
			server.stop(t)
			got := server.lines(t)
			if len(got) != len(hostile) {
				t.Fatalf("%d lines of %d messages: %q", len(got), len(hostile), got)
			}
			for i, exe := range hostile {
				checkReceived(t, got[i], exe)
			}
		})
	}
}

func checkReceived(t *testing.T, got received, exe string) {
	t.Helper()
	header := []string{got.priority, got.facility, got.hostname, got.appName, got.msgID}
	if diff := cmp.Diff([]string{"crit", "daemon", "node-1", "sallyport", "connect"}, header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	binary := got.param("binary")
	if start, cut := strings.CutSuffix(binary, `\...`); cut {
		if len(start) < 400 || !strings.HasPrefix(alert.Escape(exe), start) {
			t.Errorf("binary %q, want the start of %q", binary, alert.Escape(exe))
		}
	} else if unescape(t, binary) != exe {
		t.Errorf("binary %q, want %q", binary, exe)
	}
	want := map[string]string{
		"workload": "shop/checkout-7d", "container": "app", "origin": "Exec", "session": "2a", "peer": "10.0.0.5:443/TCP",
		"rule": "shop/checkout/shells", "verdict": "Deny", "reason": "rule",
	}
	for name, value := range want {
		if got.param(name) != value {
			t.Errorf("%s is %q, want %q, in %s", name, got.param(name), value, got.data)
		}
	}
	if strings.Count(got.data, "[sallyport@32473 ") != 1 || strings.Count(got.data, "[meta ") != 1 {
		t.Errorf("structured data %s", got.data)
	}
	if !strings.Contains(got.message, "denied connect 10.0.0.5:443/TCP by Exec ") {
		t.Errorf("message %q", got.message)
	}
}

// What arrived and what was told as lost is what was sent, though the server was away meanwhile.
func TestRsyslogdGoesAwayAndComesBack(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			requireRsyslogd(t, s.modules...)
			t.Parallel()
			server, cfg := s.make(t)
			server.start(t)
			const before, away, after, queue = 50, 300, 20, 128
			fanout, stop := run(t, queue, cfg)
			publish := func(from, n int) {
				for i := range n {
					fanout.Publish(numbered(from + i))
				}
			}
			publish(0, before)
			await(t, "the first ones arrived", func() bool { return len(server.lines(t)) >= before })
			server.stop(t)
			publish(before, away)
			await(t, "the sink is down", func() bool { return fanout.Stats()[0].Down })
			if n := fanout.Stats()[0].Lost; n < away-queue-2 || n > away-queue {
				t.Errorf("%d are lost of %d with a queue of %d", n, away, queue)
			}
			server.start(t)
			await(t, "the queue is empty", func() bool { return fanout.Stats()[0].Queued == 0 })
			publish(before+away, after)
			last := func() bool {
				seen, told := tally(server.lines(t))
				return len(seen)+told >= before+away+after
			}
			await(t, "all arrived or are told as lost", last)
			stop()
			server.stop(t)
			seen, told := tally(server.lines(t))
			stats := fanout.Stats()[0]
			if uint64(told) != stats.Lost || uint64(len(seen)) != stats.Sent || len(seen)+told != before+away+after {
				t.Errorf("%d arrived, %d told as lost, of %d; counted %+v", len(seen), told, before+away+after, stats)
			}
			for pid, times := range seen {
				if times != 1 {
					t.Errorf("record %d arrived %d times", pid, times)
				}
			}
		})
	}
}

// tally counts how often each numbered record arrived, and how many were told as lost.
func tally(lines []received) (seen map[int]int, told int) {
	seen = map[int]int{}
	for _, line := range lines {
		if line.msgID == alert.KindName(event.KindLost) {
			told += number(line.param("lost"))
			continue
		}
		seen[number(line.param("pid"))]++
	}
	return seen, told
}
