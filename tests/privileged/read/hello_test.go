package read

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/parse"
)

// served lets the pod have TLS for some names, and be such a server. %s are its mode, and a name more.
const served = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {}
  mode: %s
  rules:
  - name: names
    egress:
    - toPorts: [{ports: [{port: 8443, endPort: 8445, protocol: TCP}], serverNames: [api.example, "*.pay.example"%s]}]
    ingress:
    - toPorts: [{ports: [{port: 8081, protocol: TCP}], serverNames: [api.example]}]
`

// Where servers of TLS listen outside: one that asks clients for another key, one that does not, and one that sends back what
// comes.
const (
	retryPort = 8443
	tlsPort   = 8444
	backPort  = 8445
)

// serveTLS starts a web server over TLS. It says what names have been asked for.
func (s *scene) serveTLS(t *testing.T, port uint16, config *tls.Config) {
	t.Helper()
	borrowed := httptest.NewTLSServer(nil) // for its certificate
	defer borrowed.Close()
	config.Certificates = borrowed.TLS.Certificates
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, hello.ServerName)
		return nil, nil //nolint:nilnil // what there is
	}
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, "Ship landed") // who waits for it says that it did not come
	})}
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		var listener net.Listener
		s.Server.Do(t, func() (err error) {
			listener, err = tls.Listen("tcp", netip.AddrPortFrom(addr, port).String(), config)
			return err
		})
		go func() { _ = server.Serve(listener) }() // ends with Close
	}
	t.Cleanup(func() { _ = server.Close() })
}

// serveBack starts a server outside that sends back what comes to a port.
func (s *scene) serveBack(t *testing.T, port uint16) {
	t.Helper()
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		listener := s.Server.Listen(t, netip.AddrPortFrom(addr, port))
		t.Cleanup(func() { _ = listener.Close() })
		go func() { _ = serveOn(listener) }() // ends with Close
	}
}

// TestServerNames: TLS passes for the names that a rule has, whatever its version and whether or not the server asks for a second
// ClientHello, and for no other; what is no TLS does not either.
func TestServerNames(t *testing.T) {
	s := newScene(t, "Enforce")
	s.inForce(t, fmt.Sprintf(served, "Enforce", ""))
	s.serveTLS(t, retryPort, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP256}})
	s.serveTLS(t, tlsPort, &tls.Config{})
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		for _, port := range []uint16{retryPort, tlsPort} {
			get := func(name string, more ...string) (string, int) {
				to := fmt.Sprintf("%s:%d:%s", name, port, bracketed(addr))
				return s.curl(t, append([]string{"-k", "--resolve", to, fmt.Sprintf("https://%s:%d/", name, port)}, more...)...)
			}
			for _, name := range []string{"api.example", "x.pay.example"} {
				for _, more := range [][]string{nil, {"--tls-max", "1.2"}, {"--http1.1"}} {
					text, code := get(name, more...)
					if seen := s.requests(); code != 0 || text != "Ship landed" || !strings.HasPrefix(seen, name) {
						t.Errorf("%s at %s %v: curl ended with %d and %q; the server was asked for %q", name, addr, more, code, text, seen)
					}
				}
			}
			s.events.Reset()
			for _, name := range []string{"other.example", "pay.example", "api.example.other"} {
				text, code := get(name)
				if seen := s.requests(); code == 0 || seen != "" {
					t.Errorf("%s at %s: curl ended with %d and %q; the server was asked for %q", name, addr, code, text, seen)
				}
				e := s.events.Wait(t, "the denial", func(e event.Event) bool { return e.Kind == event.KindHello && e.Host == name })
				if e.ALPN&event.ALPNHTTP1 == 0 || e.Verdict != event.VerdictDeny || e.Reason != event.ReasonRule || e.Subject.Exe != "/usr/bin/curl" || e.Remote.Port() != port {
					t.Errorf("the denial is told as %+v", e)
				}
			}
			whole := netip.AddrPortFrom(addr, port).String()
			for _, url := range []string{"https://" + whole, "http://" + whole} { // which asks for no name; no TLS
				if text, code := s.curl(t, "-k", url); code == 0 && strings.Contains(text, "Ship") || s.requests() != "" {
					t.Errorf("%s: curl ended with %d and %q", url, code, text)
				}
			}
		}
	}
	s.awaitEnds(t)
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// TestHellosInPieces: it does not matter in how many segments a ClientHello leaves, and a second one must ask for the same name.
func TestHellosInPieces(t *testing.T) {
	s := newScene(t, "Enforce")
	s.inForce(t, fmt.Sprintf(served, "Enforce", ""))
	s.serveBack(t, backPort)
	good, bad := helloFor(t, "api.example"), helloFor(t, "apj.example")
	const change, data = "\x14\x03\x03\x00\x01\x01", "\x17\x03\x03\x00\x04more"
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		to := netip.AddrPortFrom(addr, backPort).String()
		all := []conversation{
			{Name: "allowed", Pieces: []string{good, data, data}, Wait: true, Back: good + data + data},
			{Name: "byte by byte", Pieces: append(bytewise(good), data), Back: good + data},
			{Name: "with data", Pieces: []string{good + change + data + data}, Back: good + change + data + data},
			{Name: "twice", Pieces: []string{good, change, good, data}, Wait: true, Back: good + change + good + data},
			{Name: "denied", Pieces: []string{bad}, Ends: reset},
			{Name: "another the second time", Pieces: []string{good, change + bad}, Wait: true, Back: good, Ends: reset},
			{Name: "another in one", Pieces: []string{good + change + bad}, Ends: reset},
			{Name: "no TLS", Pieces: []string{"EHLO a.example"}, Back: answer, Ends: ended},
			{Name: "no TLS, a word that could begin a request", Pieces: []string{"secret"}, Back: answer, Ends: ended},
			{Name: "data at once", Pieces: []string{data}, Back: answer, Ends: ended},
		}
		for i := 1; i < len(bad); i += 7 {
			all = append(all, conversation{Name: fmt.Sprintf("denied, split at %d", i), Pieces: []string{bad[:i], bad[i:]}, Wait: true, Back: bad[:i], Ends: reset})
		}
		s.hold(t, to, all...)
	}
	s.awaitEnds(t)
}

// bytewise has each byte for itself.
func bytewise(s string) (out []string) {
	for i := range len(s) {
		out = append(out, s[i:i+1])
	}
	return out
}

// helloFor is a short ClientHello.
func helloFor(t *testing.T, name string) string {
	t.Helper()
	return string(parse.MakeHello(t, &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}))
}

// TestServedNames: what comes in is read at the server's socket.
func TestServedNames(t *testing.T) {
	s := newScene(t, "Enforce")
	s.inForce(t, fmt.Sprintf(served, "Enforce", ""))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.serveInside(t, self, inPort)
	good, bad := helloFor(t, "api.example"), helloFor(t, "apj.example")
	const data = "\x17\x03\x03\x00\x04more"
	for _, addr := range []netip.Addr{s.PodAddr, s.PodAddr6} {
		to := netip.AddrPortFrom(addr, inPort)
		awaitServer(t, s.Server, to)
		for _, c := range []conversation{
			{Name: "allowed", Pieces: []string{good, data, data}, Wait: true, Back: good + data + data},
			{Name: "split", Pieces: []string{good[:40], good[40:], data}, Wait: true, Back: good + data},
			{Name: "denied", Pieces: []string{bad}, Ends: reset},
			{Name: "denied, split", Pieces: []string{bad[:70], bad[70:]}, Wait: true, Back: bad[:70], Ends: reset},
			{Name: "another the second time", Pieces: []string{good, bad}, Wait: true, Back: good, Ends: reset},
		} {
			s.Server.Do(t, func() error {
				if got := c.hold(to.String()); got != "" {
					t.Errorf("%s at %s: %s", c.Name, addr, got)
				}
				return nil
			})
		}
	}
	s.awaitEnds(t)
	if e := s.events.Wait(t, "the denial", func(e event.Event) bool { return e.Kind == event.KindHello }); e.Host != "apj.example" || e.Call != event.CallPacketIn {
		t.Errorf("the denial is told as %+v", e)
	}
}

// TestServerNamesOfAPolicyThatChanges: a connection is judged again, by the name that it asked for.
func TestServerNamesOfAPolicyThatChanges(t *testing.T) {
	s := newScene(t, "Enforce")
	const data = "\x17\x03\x03\x00\x04more"
	for _, c := range []struct {
		name, back, ends string
	}{
		{"api.example", data, open}, {"late.example", "", reset},
	} {
		s.inForce(t, fmt.Sprintf(served, "Enforce", ", late.example"))
		hello := helloFor(t, c.name)
		swap := func() { s.inForce(t, fmt.Sprintf(served, "Enforce", "")) }
		to := s.serveOnce(t, len(hello), swap)
		s.hold(t, to, conversation{Name: c.name, Pieces: []string{hello, data}, Wait: true, Back: hello + c.back, Ends: c.ends})
	}
	e := s.events.Wait(t, "the denial", func(e event.Event) bool { return e.Kind == event.KindHello })
	if e.Host != "late.example" || e.Verdict != event.VerdictDeny {
		t.Errorf("the denial is told as %+v", e)
	}
}

// serveOnce starts a server outside for one connection, on which it sends back what comes, and before the first n bytes calls
// between. It returns its address.
func (s *scene) serveOnce(t *testing.T, n int, between func()) string {
	t.Helper()
	at := netip.AddrPortFrom(s.ServerAddr, backPort)
	to, listener := at.String(), s.Server.Listen(t, at)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		_ = listener.Close()
		if err != nil {
			return
		}
		first := make([]byte, n)
		if _, err := io.ReadFull(conn, first); err != nil {
			return
		}
		between()
		_, _ = conn.Write(first)   // what was sent back is what counts
		_, _ = io.Copy(conn, conn) // the same
		_ = conn.Close()
	}()
	return to
}

// TestServerNamesAudit: what would be denied passes and is told.
func TestServerNamesAudit(t *testing.T) {
	s := newScene(t, "Enforce")
	s.inForce(t, fmt.Sprintf(served, "Audit", ""))
	s.serveBack(t, backPort)
	bad := helloFor(t, "apj.example")
	const data = "\x17\x03\x03\x00\x04more"
	s.hold(t, netip.AddrPortFrom(s.ServerAddr, backPort).String(),
		conversation{Name: "another", Pieces: []string{bad, data, data}, Wait: true, Back: bad + data + data})
	e := s.events.Wait(t, "the report", func(e event.Event) bool { return e.Kind == event.KindHello })
	if e.Host != "apj.example" || e.Verdict != event.VerdictAudit || e.Would != event.VerdictDeny {
		t.Errorf("it is told as %+v", e)
	}
}
