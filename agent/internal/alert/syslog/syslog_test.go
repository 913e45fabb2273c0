package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/agent/internal/alert"
)

func open(t *testing.T, cfg Config) *Sink {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Second
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t *testing.T, s *Sink, n int) {
	t.Helper()
	for range n {
		if err := s.Send(t.Context(), denied("/bin/sh")); err != nil {
			t.Fatal(err)
		}
	}
}

// sequence is the sequenceId of a message.
func sequence(t *testing.T, message []byte) string {
	t.Helper()
	parsed, _ := parse(t, message)
	return (*parsed.StructuredData)["meta"]["sequenceId"]
}

// readFrame reads one octet-counted frame.
func readFrame(t *testing.T, from *bufio.Reader) []byte {
	t.Helper()
	size, err := from.ReadString(' ')
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, " "))
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(from, frame); err != nil {
		t.Fatal(err)
	}
	return frame
}

func accept(t *testing.T, on net.Listener) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := on.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = on.Close() })
	return on
}

func TestStreamServerEndsTheConnection(t *testing.T) {
	t.Parallel()
	server := listen(t)
	s := open(t, Config{Network: TCP, Address: server.Addr().String()})
	send(t, s, 3)
	conn, frames := accept(t, server)
	for i := 1; i <= 3; i++ {
		if got := sequence(t, readFrame(t, frames)); got != strconv.Itoa(i) {
			t.Errorf("message %d has sequenceId %s", i, got)
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.link.gone // the end has come through
	send(t, s, 1)
	_, frames = accept(t, server)
	if got := sequence(t, readFrame(t, frames)); got != "4" {
		t.Errorf("the first message of the new connection has sequenceId %s, want 4", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestUnconfirmedMessagesAreWrittenAgain(t *testing.T) {
	t.Parallel()
	server := listen(t)
	s := open(t, Config{Network: TCP, Address: server.Addr().String()})
	send(t, s, 2)
	conn, frames := accept(t, server)
	readFrame(t, frames)
	readFrame(t, frames)
	// As if the peer's TCP had never confirmed the last one: what is kept must be sent again.
	s.pending = []pending{{frame: append([]byte(nil), s.frame...), end: s.link.written() + 1}}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.link.gone
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	send(t, s, 1)
	_, frames = accept(t, server)
	for _, want := range []string{"2", "3"} {
		if got := sequence(t, readFrame(t, frames)); got != want {
			t.Errorf("sequenceId %s, want %s", got, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestReceiverThatDoesNotRead(t *testing.T) {
	t.Parallel()
	server := listen(t)
	s := open(t, Config{Network: TCP, Address: server.Addr().String(), Timeout: 300 * time.Millisecond})
	sent := 0
	var err error
	for ; err == nil && sent < 100000; sent++ {
		err = s.Send(t.Context(), denied("/bin/sh"))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after %d messages: %v, want the write deadline", sent, err)
	}
	if len(s.pending) == 0 || len(s.pending) >= sent {
		t.Errorf("%d of %d messages are kept", len(s.pending), sent)
	}
	if err := s.Close(); err == nil {
		t.Error("closing with unconfirmed messages is no error")
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := listen(t)
	s := open(t, Config{Network: TCP, Address: server.Addr().String(), Timeout: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var err error
	for err == nil {
		err = s.Send(ctx, denied("/bin/sh"))
	}
	if ctx.Err() == nil {
		t.Errorf("ended before its context: %v", err)
	}
	s.giveUp()
}

func TestRefusedDatagramIsWrittenAgain(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := server.LocalAddr().String()
	s := open(t, Config{Network: UDP, Address: address})
	send(t, s, 1)
	read := func(want string) {
		t.Helper()
		buf := make([]byte, 64<<10)
		if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := server.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := sequence(t, buf[:n]); got != want {
			t.Errorf("sequenceId %s, want %s", got, want)
		}
	}
	read("1")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	send(t, s, 1) // the kernel takes it, and the refusal comes back
	if err := s.Send(t.Context(), denied("/bin/sh")); err == nil {
		t.Fatal("the refusal went unseen")
	}
	if server, err = net.ListenPacket("udp", address); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	send(t, s, 1)
	read("2")
	read("3")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestFailureWhileWritingAgainForgetsNothing(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	small, large := []byte("small"), make([]byte, 70000) // the second is more than a datagram holds
	frames := func(s *Sink) (sizes []int) {
		for _, p := range s.pending {
			sizes = append(sizes, len(p.frame))
		}
		return sizes
	}
	s := open(t, Config{Network: UDP, Address: server.LocalAddr().String()})
	s.pending = []pending{{frame: small}, {frame: large}, {frame: small}}
	if err := s.Flush(t.Context()); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("error %v, want %v", err, unix.EMSGSIZE)
	}
	if diff := cmp.Diff([]int{5, 70000, 5}, frames(s)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	s.pending = []pending{{frame: small}, {frame: small}, {frame: small}}
	if err := s.Flush(t.Context()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("error %v, want %v", err, unix.ECONNREFUSED)
	}
	if diff := cmp.Diff([]int{5, 5, 5}, frames(s)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if err := s.Close(); err == nil {
		t.Error("closing with messages that were not confirmed is no error")
	}
}

func TestLocalSocketGoesAndComes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, Config{Address: path})
	if err := s.Send(t.Context(), denied("/bin/sh")); err == nil {
		t.Fatal("no socket, no error")
	}
	for round := 1; round <= 2; round++ {
		server, err := net.ListenPacket("unixgram", path)
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, 1)
		buf := make([]byte, 64<<10)
		n, _, err := server.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := sequence(t, buf[:n]); got != strconv.Itoa(round) {
			t.Errorf("sequenceId %s, want %d", got, round)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), denied("/bin/sh")); err == nil {
			t.Error("that the socket went was not seen")
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"unknown network":     {Network: "pigeon"},
		"no port":             {Network: UDP, Address: "logs.example"},
		"facility":            {Facility: 24},
		"message too small":   {MaxMessage: 480},
		"message too large":   {MaxMessage: 65536},
		"certificate, no key": {Network: TLS, Address: "127.0.0.1:1", TLS: TLSConfig{CertFile: "x"}},
		"unreadable CA":       {Network: TLS, Address: "127.0.0.1:1", TLS: TLSConfig{CAFile: "/does/not/exist"}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if f, err := ParseFacility("local4"); err != nil || f != 20 {
		t.Errorf("local4 is %d, %v", f, err)
	}
	if _, err := ParseFacility("loud"); err == nil {
		t.Error("an unknown facility is no error")
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	serverCert, serverKey := ours.issue(t, "logs.example")
	clientCert, clientKey := ours.issue(t, "node-1")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ours.cert)
	const noTickets = "TLS 1.3 without tickets"
	tests := []struct {
		name    string
		version uint16
		tls     TLSConfig
		works   bool
	}{
		{noTickets, tls.VersionTLS13, TLSConfig{ours.file, clientCert, clientKey, "logs.example"}, true},
		{"TLS 1.3", tls.VersionTLS13, TLSConfig{ours.file, clientCert, clientKey, "logs.example"}, true},
		{"TLS 1.2", tls.VersionTLS12, TLSConfig{ours.file, clientCert, clientKey, "logs.example"}, true},
		{"TLS 1.1", tls.VersionTLS11, TLSConfig{ours.file, clientCert, clientKey, "logs.example"}, false},
		{"another name", tls.VersionTLS13, TLSConfig{ours.file, clientCert, clientKey, "other.example"}, false},
		{"the address is the name", tls.VersionTLS13, TLSConfig{ours.file, clientCert, clientKey, ""}, false},
		{"another authority", tls.VersionTLS13, TLSConfig{theirs.file, clientCert, clientKey, "logs.example"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := tls.NewListener(listen(t), &tls.Config{
				Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10, MaxVersion: test.version,
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, SessionTicketsDisabled: test.name == noTickets,
			})
			got := make(chan string, 1)
			go func() { got <- serveOne(server) }()
			s := open(t, Config{Network: TLS, Address: server.Addr().String(), TLS: test.tls})
			err := s.Send(t.Context(), denied("/bin/sh"))
			if (err == nil) != test.works {
				t.Errorf("sending: %v, want success %t", err, test.works)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			received := <-got
			if arrived := strings.Contains(received, `verdict="Deny"`); arrived != test.works {
				t.Errorf("the server got %q", received)
			}
		})
	}
}

// serveOne reads one connection to its end.
func serveOne(on net.Listener) string {
	conn, err := on.Accept()
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	all, _ := io.ReadAll(conn) // an error is a connection that the client refused
	return string(all)
}

func TestSinkIsFlushed(t *testing.T) {
	t.Parallel()
	var sink alert.Sink = open(t, Config{Network: TCP, Address: "127.0.0.1:1"})
	flusher, ok := sink.(alert.Flusher)
	if !ok {
		t.Fatal("the sink has no Flush")
	}
	if err := flusher.Flush(t.Context()); err != nil {
		t.Errorf("nothing is on its way, but Flush connects: %v", err)
	}
}
