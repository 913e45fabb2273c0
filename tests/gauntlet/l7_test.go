package gauntlet

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
)

// sink is what servers outside have heard.
type sink struct {
	addr  netip.Addr
	mu    sync.Mutex
	heard strings.Builder
}

// hear starts servers that take down whatever they are told; the resolver answers, too.
func hear(t *testing.T, s *scene) *sink {
	t.Helper()
	k := &sink{addr: s.ServerAddr}
	for _, port := range []uint16{webPort, anyPort, namedPort, dotPort, dnsPort} {
		at := netip.AddrPortFrom(s.ServerAddr, port)
		var listener net.Listener
		var datagrams *net.UDPConn
		s.Server.Do(t, func() (err error) {
			if datagrams, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); err == nil {
				listener, err = net.Listen("tcp", at.String())
			}
			return err
		})
		t.Cleanup(func() { _ = errors.Join(listener.Close(), datagrams.Close()) }) // what ends the servers
		go k.serveStreams(listener)
		go k.serveDatagrams(datagrams)
	}
	return k
}

func (k *sink) serveStreams(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // else: reset before it was accepted
			go func() {
				_, _ = io.Copy(k, conn) // ends with the client, or by a reset
				_ = conn.Close()
			}()
		}
	}
}

func (k *sink) serveDatagrams(conn *net.UDPConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		_, _ = k.Write(b[:n]) // never fails
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response = true
		h := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60}
		m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: k.addr.As4()}}}
		if answer, err := m.Pack(); err == nil {
			_, _ = conn.WriteToUDPAddrPort(answer, from) // who waits for it says that it did not come
		}
	}
}

// Write implements io.Writer.
func (k *sink) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.heard.Write(b)
}

// reset forgets what was heard.
func (k *sink) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.heard.Reset()
}

// knows says whether the secret of a saying has come, with all behind it.
func (k *sink) knows(a *saying) bool {
	_, behind, _ := strings.Cut(a.bytes, secret)
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Contains(k.heard.String(), secret+behind)
}

// TestGauntletL7 lets a hostile client say what no rule allows to servers that it may ask for other things. Each saying comes to
// the server without Sallyport. What stops it, or that nothing does, is in l7.md.
func TestGauntletL7(t *testing.T) {
	testutil.RequireRoot(t)
	all := sayings(t)
	t.Run("without Sallyport", func(t *testing.T) {
		s := newScene(t, event.StepNone, make([]attack, 1))
		k := hear(t, s)
		for _, a := range all {
			if said := s.say(t, &a); !comes(k, &a) {
				t.Errorf("%s does not come to the server even without Sallyport: %s", a.name, said)
			}
			k.reset()
		}
	})
	known, measured := committed(tableL7), map[event.Step][]string{}
	attached.OnEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		s := newScene(t, step, make([]attack, 1))
		k := hear(t, s)
		s.swap(t, asking)
		for _, a := range all {
			cell := s.judged(t, k, &a)
			known.compare(t, a.name, step, cell)
			measured[step] = append(measured[step], cell)
		}
	})
	var names []string
	for _, a := range all {
		names = append(names, a.name)
	}
	printTable(names, measured)
}

// judged makes a client say something and returns what stopped it.
func (s *scene) judged(t *testing.T, k *sink, a *saying) string {
	t.Helper()
	if a.ask != "" {
		q := dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(a.ask + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		}}
		packed, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		s.say(t, &saying{port: dnsPort, udp: true, bytes: string(packed)})
	}
	s.events.Reset()
	k.reset()
	said := s.say(t, a)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if k.knows(a) {
			return through
		}
		if found := s.events.Find(s.stops); len(found) > 0 {
			time.Sleep(100 * time.Millisecond) // what has passed arrives
			if k.knows(a) {
				return through
			}
			return stoppedBy(found[0])
		}
		if time.Now().After(end) {
			return "untold: " + said
		}
	}
}

// stops says whether an event is of something that was stopped for what was said.
func (s *scene) stops(e event.Event) bool {
	return e.Subject.Container == s.containers[0].ID && e.Verdict >= event.VerdictDeny
}

func stoppedBy(e event.Event) string {
	read := map[event.Kind]string{event.KindRequest: "request", event.KindHello: "ClientHello", event.KindDNS: "query"}
	if what, ok := read[e.Kind]; ok {
		return what
	}
	return where(e)
}

// say lets the client say something.
func (s *scene) say(t *testing.T, a *saying) string {
	t.Helper()
	words := "say-tcp SERVER4 %d %s %d"
	if a.udp {
		words = "say-udp SERVER4 %d %s"
	}
	args := []any{a.port, hex.EncodeToString([]byte(a.bytes))}
	if !a.udp {
		args = append(args, a.piece)
	}
	return outcome(s.started(t, s.containers[0], fmt.Sprintf(words, args...)))
}

// comes waits until the secret has come.
func comes(k *sink, a *saying) bool {
	for end := time.Now().Add(5 * time.Second); !k.knows(a); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
