package tls

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/read"
	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	envWays  = "SALLYPORT_VICTIM_TLS"        // the client of OpenSSL that is made of tests/victim/tls/openssl.c
	envNewer = "SALLYPORT_WITH_OPENSSL_KTLS" // runs a program with the library of openssl (envOpenSSL), which is 3.3 or newer
)

// opensslWays: the ways to write that OpenSSL has beside SSL_write are read, or nothing leaves by them.
func opensslWays(t *testing.T, s *scene) {
	t.Helper()
	client := os.Getenv(envWays)
	if client == "" {
		testutil.Unsupported(t, envWays, "it is not set: make test-vm sets it")
	}
	newer := s.newerOpenSSL(t)
	for _, c := range []struct {
		way, path string
		want      []string // lines that it begins to print
	}{
		{"write", "/allowed/", []string{"sent", "HTTP/1.1 200 OK"}},
		{"write", "/denied/", []string{"refused Operation not permitted"}},
		{"write_ex", "/allowed/", []string{"sent", "HTTP/1.1 200 OK"}},
		{"write_ex", "/denied/", []string{"refused Operation not permitted"}},
		{"write_ex2", "/allowed/", []string{"sent", "HTTP/1.1 200 OK"}},
		{"write_ex2", "/denied/", []string{"refused Operation not permitted"}},
		{"bio", "/allowed/", []string{"sent", "HTTP/1.1 200 OK"}},
		{"bio", "/denied/", []string{"refused Operation not permitted"}},
		// Before there is a peer nobody can judge: the handshake does not pass.
		{"implicit", "/allowed/", []string{"refused"}},
		{"implicit", "/denied/", []string{"refused"}},
		// Nobody reads what a file has.
		{"sendfile", "/allowed/", []string{"refused", "refused Operation not permitted"}},
	} {
		t.Run(c.way+c.path, func(t *testing.T) {
			path := c.path + c.way
			command := []string{client, c.way, s.host(), s.port(), path}
			if c.way == "write_ex2" {
				command = slices.Insert(command, 0, newer)
			}
			said := s.box.Command(command...).Run(t)
			lines := strings.Split(said, "\n")
			for i, want := range c.want {
				if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
					t.Errorf("it says %q, not %q", lines, c.want)
					break
				}
			}
			if sent := c.want[0] == "sent"; s.has(path) != sent {
				t.Errorf("that the server has seen it is %v", !sent)
			}
		})
	}
	t.Run("early data", func(t *testing.T) { earlyData(t, s, client) })
}

// newerOpenSSL taps a library that is newer than the machine's, and returns what runs a program with it.
func (s *scene) newerOpenSSL(t *testing.T) string {
	t.Helper()
	newer := os.Getenv(envNewer)
	if newer == "" {
		testutil.Unsupported(t, envNewer, "it is not set: make test-vm sets it")
	}
	s.swap(t, "Enforce", plain) // before its library is known its connection would be opaque, and denied
	early := s.start(t, os.Getenv(envOpenSSL), "s_client", "-quiet", "-connect", s.server.String())
	testutil.Eventually(t, "the newer library", func() error {
		if err := s.taps.Cover(s.box.ID, uint32(early.Process.Process.Pid)); err != nil {
			return err
		}
		files := s.taps.Files(s.box.ID)
		if !slices.ContainsFunc(files, func(f read.File) bool { return strings.HasPrefix(f.Path, "/ktls/libssl") && f.Library == read.OpenSSL }) {
			return fmt.Errorf("tapped are %+v", files)
		}
		return nil
	})
	_ = early.in.Close() // it may have ended
	s.swap(t, "Enforce", asked)
	return newer
}

// earlyData: what a client writes before the handshake is over does not leave, be it allowed or not.
func earlyData(t *testing.T, s *scene, client string) {
	t.Helper()
	wire := s.record(t)
	_, port, err := net.SplitHostPort(wire.at.String())
	if err != nil {
		t.Fatal(err)
	}
	said := s.box.Command(client, "early", s.host(), s.port(), "/allowed/early", port).Run(t)
	if want := "HTTP/1.1 200 OK"; !strings.HasPrefix(said, want) {
		t.Fatalf("it says %q, not %q", said, want)
	}
	s.events.Wait(t, "an opaque connection", func(e event.Event) bool {
		return e.Kind == event.KindRequest && e.Remote == wire.at && e.Verdict == event.VerdictDeny && e.Reason == event.ReasonOpaque
	})
	if got := wire.bytes(); len(got) > 0 {
		t.Errorf("%d bytes have left", len(got))
	}
}

// wire is a server that answers nothing and keeps what it gets.
type wire struct {
	at netip.AddrPort

	mu  sync.Mutex
	got []byte
}

// record starts a wire in the place of the server.
func (s *scene) record(t *testing.T) *wire {
	t.Helper()
	l := s.Server.Listen(t, netip.AddrPortFrom(s.ServerAddr, 0))
	w := &wire{at: l.Addr().(*net.TCPAddr).AddrPort()}
	var done sync.WaitGroup
	done.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return // nobody has come
		}
		context.AfterFunc(t.Context(), func() { _ = conn.Close() }) // ends what reads
		_, _ = io.Copy(w, conn)
	})
	t.Cleanup(func() {
		_ = l.Close() // ends what waits
		done.Wait()
	})
	return w
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, b...)
	return len(b), nil
}

func (w *wire) bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got
}
