package read

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/sallyport/sallyport/probes/event"
)

// upgradeArg ADDRESS makes the test binary a server that may change to WebSocket; chatArg URL a client of it.
const (
	upgradeArg = "sallyport-upgrade"
	chatArg    = "sallyport-chat"
)

// chats lets a pod chat, and others with it, nothing else. %s is a path more, and what is said of another pod.
const chats = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {}
  mode: Enforce
  rules:
  - name: chat
    egress: [{toPorts: [{ports: [{port: 8082, protocol: TCP}], rules: {http: [{path: "/(chat|slow|no|halves|early%[1]s)"}]}}]}]
    ingress: [{toPorts: [{ports: [{port: 8081, protocol: TCP}], rules: {http: [{path: "/(chat|slow|no|halves|early%[1]s)"}]}}]}]
---
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: other, namespace: default}
spec:
  podSelector: {matchLabels: {app: other}}
  description: "%[2]s"
  rules: [{name: nothing, egress: []}]
`

// Answers of the server behind upgradeArg: to who may change, to who may not, and between frames.
const (
	switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	staying   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"
	forged    = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab"
	tooEarly  = "too early"
	// frames are said where no request would be allowed.
	frames = "PUT /closed HTTP/1.1\r\nHost: a\r\n\r\n\x81\x00\x00"
)

// upgrades is the server: by the path of a request it answers at once, later, in two pieces, or as one that knows no WebSocket and
// goes on with requests. A client that spoke before the answer hears of it. What becomes of denied requests goes to seen.
func upgrades(l net.Listener, seen func(string)) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = conn.Close() }() // the client says what it got
			upgradesOn(conn, seen)
		}()
	}
}

func upgradesOn(conn net.Conn, seen func(string)) {
	from := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		seen(r.URL.Path)
		switch r.URL.Path {
		case "/no":
			_, _ = io.WriteString(conn, staying) // the client says what it got, as all here
			continue
		case "/early":
			_, _ = io.WriteString(conn, forged)
			continue
		case "/slow":
			time.Sleep(300 * time.Millisecond)
		case "/halves":
			_, _ = io.WriteString(conn, switching[:10])
			time.Sleep(10 * time.Millisecond) // that it is a segment of its own
			_, _ = io.WriteString(conn, switching[10:])
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // of a connection that is open
		if _, err := from.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			_, _ = io.WriteString(conn, tooEarly)
			return
		}
		_ = conn.SetReadDeadline(time.Time{})
		_, _ = io.WriteString(conn, switching)
		_, _ = io.Copy(conn, from)
		return
	}
}

// serveUpgrades is that server in the pod.
func serveUpgrades(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return upgrades(l, func(string) {})
}

// handshake asks for WebSocket, and for nothing else.
func handshake(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
}

// upgradeConversations are held with such a server, wherever it is.
func upgradeConversations() []conversation {
	closed := "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"
	more := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }
	slowly := conversation{Name: "byte by byte", Pieces: strings.Split(handshake("/chat"), "")}
	slowly.Heard = make([]string, len(slowly.Pieces))
	slowly.Pieces, slowly.Heard[len(slowly.Heard)-1] = append(slowly.Pieces, frames), switching
	slowly.Heard = append(slowly.Heard, frames)
	return []conversation{
		{Name: "allowed", Pieces: []string{handshake("/chat"), frames, frames}, Heard: []string{switching, frames, frames}},
		slowly,
		{Name: "denied", Pieces: []string{handshake("/closed")}, Heard: []string{answer}, Ends: ended},
		{Name: "a client that does not wait", Pieces: []string{handshake("/slow"), frames}, Heard: []string{"", switching + frames}},
		{Name: "one that says more at once", Pieces: []string{handshake("/chat") + frames}, Heard: []string{""}, Ends: reset},
		{Name: "a server that does not change", Pieces: []string{handshake("/no"), more("/no"), closed}, Heard: []string{staying, staying, answer}, Ends: ended},
		{Name: "a server that does not change, and frames", Pieces: []string{handshake("/no"), "\x81\x00"}, Heard: []string{staying, answer}, Ends: ended},
		{Name: "a second request", Pieces: []string{more("/no"), handshake("/chat")}, Heard: []string{staying, answer}, Ends: ended},
		{Name: "amid an answer", Pieces: []string{more("/early"), handshake("/chat")}, Heard: []string{forged, answer}, Ends: ended},
		{Name: "an answer in halves", Pieces: []string{handshake("/halves"), frames}, Heard: []string{switching, answer}, Ends: ended},
		{Name: "asked for twice", Pieces: []string{handshake("/no"), handshake("/chat")}, Heard: []string{staying, answer}, Ends: ended},
	}
}

// newChat is a scene in which one may chat, with such a server in the pod.
func newChat(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, "Enforce")
	s.inForce(t, fmt.Sprintf(chats, "", ""))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inside := s.pod.Command(self, upgradeArg, fmt.Sprintf(":%d", inPort))
	inside.Start(t)
	t.Cleanup(func() { _ = inside.Process.Kill(); inside.Result() }) // it never ends by itself
	return s
}

// TestUpgrade: a connection may become one of WebSocket by a request that rules allow and an answer that says so, and then
// carries anything; what only looks like that stays requests, of a client in the pod and of one that comes in.
func TestUpgrade(t *testing.T) {
	s := newChat(t)
	for i, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		l := s.Server.Listen(t, netip.AddrPortFrom(addr, nginxPort))
		t.Cleanup(func() { _ = l.Close() }) // it ends serving
		go func() {
			_ = upgrades(l, func(path string) { // ends with Close
				s.mu.Lock()
				defer s.mu.Unlock()
				s.seen = append(s.seen, path)
			})
		}()
		s.hold(t, l.Addr().String(), upgradeConversations()...)
		s.awaitEnds(t)
		if seen := s.requests(); strings.Contains(seen, "/closed") {
			t.Errorf("the server saw %s", seen)
		}
		to := netip.AddrPortFrom([]netip.Addr{s.PodAddr, s.PodAddr6}[i], inPort)
		awaitServer(t, s.Server, to)
		s.Server.Do(t, func() error {
			for _, c := range upgradeConversations() {
				if wrong := c.hold(to.String()); wrong != "" {
					t.Errorf("%s at %s: %s", c.Name, to, wrong)
				}
			}
			return nil
		})
		s.awaitEnds(t)
	}
	for _, call := range []event.Call{event.CallPacketOut, event.CallPacketIn} {
		s.await(t, func(e event.Event) bool {
			return e.Call == call && e.Flaw == event.FlawTunnel && e.Verdict == event.VerdictDeny
		})
	}
}

// TestUpgradeUnderAnotherPolicy: what a connection of WebSocket says passes as long as the rules are those that allowed it, and is
// denied under others, as nobody can ask them about a request that is over.
func TestUpgradeUnderAnotherPolicy(t *testing.T) {
	s := newChat(t)
	to := netip.AddrPortFrom(s.PodAddr, inPort)
	awaitServer(t, s.Server, to)
	var conn net.Conn
	s.Server.Do(t, func() (err error) {
		conn, err = net.DialTimeout("tcp", to.String(), patience)
		return err
	})
	defer func() { _ = conn.Close() }() // was reset
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if wrong := (conversation{Pieces: []string{handshake("/chat"), frames}, Heard: []string{switching, frames}}).holdOn(conn); wrong != "" {
		t.Fatal(wrong)
	}
	s.inForce(t, fmt.Sprintf(chats, "", "another"))
	if wrong := (conversation{Pieces: []string{frames}, Heard: []string{frames}}).holdOn(conn); wrong != "" {
		t.Errorf("when a policy about others has changed: %s", wrong)
	}
	s.inForce(t, fmt.Sprintf(chats, "|more", "another"))
	if wrong := (conversation{Pieces: []string{frames}, Heard: []string{""}, Ends: reset}).holdOn(conn); wrong != "" {
		t.Errorf("under other rules: %s", wrong)
	}
	s.await(t, func(e event.Event) bool {
		return e.Call == event.CallPacketIn && e.Flaw == event.FlawMidway && e.Verdict == event.VerdictDeny
	})
}

// chat says something over WebSocket, and prints what comes back.
func chat(url string) error {
	conn, err := websocket.Dial(url, "", "http://a/")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // was read
	var heard string
	if err := errors.Join(conn.SetDeadline(time.Now().Add(patience)), websocket.Message.Send(conn, "ahoy"), websocket.Message.Receive(conn, &heard)); err != nil {
		return err
	}
	fmt.Print(heard)
	return nil
}

// TestWebSocket: a program that speaks WebSocket does so where it may, and hears that it may not elsewhere.
func TestWebSocket(t *testing.T) {
	s := newChat(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := s.Server.Listen(t, netip.AddrPortFrom(s.ServerAddr, nginxPort))
	server := &http.Server{Handler: websocket.Handler(func(conn *websocket.Conn) { _, _ = io.Copy(conn, conn) })}
	go func() { _ = server.Serve(l) }()      // ends with Close
	t.Cleanup(func() { _ = server.Close() }) // who chats ends it before
	url := "ws://" + l.Addr().String()
	p := s.pod.Command(self, chatArg, url+"/chat")
	if heard := p.Run(t); heard != "ahoy" {
		t.Errorf("a client heard %q; %s", heard, p.Complaint())
	}
	p = s.pod.Command(self, chatArg, url+"/closed")
	if heard := p.Run(t); heard != "" || !strings.Contains(p.Complaint(), "bad status") {
		t.Errorf("one that may not heard %q; %s", heard, p.Complaint())
	}
	e := s.await(t, func(e event.Event) bool { return e.Path == "/closed" })
	if e.Verdict != event.VerdictDeny || e.Flaw != event.FlawNone || e.Method != http.MethodGet {
		t.Errorf("the denied handshake is told as %+v", e)
	}
}
