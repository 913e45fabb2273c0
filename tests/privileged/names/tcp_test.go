package names

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
)

// inPieces writes some bytes at a time, each in a segment of its own as far as the kernel lets them; 0: all at once.
func inPieces(conn net.Conn, b []byte, piece int) error {
	for p := range slices.Chunk(b, cmp.Or(piece, len(b), 1)) {
		if _, err := conn.Write(p); err != nil {
			return err
		}
		if piece > 0 {
			time.Sleep(time.Millisecond) // else they would wait for each other and leave together
		}
	}
	return nil
}

// message reads one DNS message from a stream.
func message(conn net.Conn, wait time.Duration) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(conn, b)
	return b, err
}

// lookUp looks a name up by the resolver at an address, and connects to all that it is told.
func lookUp(o order) error {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, o.Address)
	}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	found, err := r.LookupNetIP(ctx, "ip4", o.Name)
	if err == nil && len(found) != o.Count {
		err = fmt.Errorf("%d addresses", len(found))
	}
	for _, a := range found {
		err = errors.Join(err, connect(netip.AddrPortFrom(a.Unmap(), 443)))
	}
	return err
}

// listenTCP makes the resolver answer over TCP too.
func (r *resolver) listenTCP(t *testing.T, s *scene) {
	t.Helper()
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		var l *net.TCPListener
		s.Server.Do(t, func() (err error) {
			l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 53)))
			return err
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go r.serveTCP(conn)
			}
		}()
		t.Cleanup(func() {
			_ = l.Close() // what ends the loop
			<-done
		})
	}
}

// serveTCP answers until the connection ends: all the queries that are there at once, as one piece of text.
func (r *resolver) serveTCP(conn net.Conn) {
	defer conn.Close() // the client says what it got
	for {
		q, err := message(conn, time.Minute)
		if errors.Is(err, syscall.ECONNRESET) {
			r.mu.Lock()
			r.resets++
			r.mu.Unlock()
		}
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(q) != nil || len(m.Questions) != 1 {
			return
		}
		r.mu.Lock()
		r.asked = append(r.asked, m.Questions[0].Name.String())
		respond, piece, halves := r.respond, r.piece, r.halves
		r.mu.Unlock()
		var text []byte
		for _, reply := range respond(q, m.Questions[0]) {
			text = append(text, framed(reply)...)
		}
		if halves != nil && len(text) > 0 {
			if inPieces(conn, text[:len(text)/2], piece) != nil {
				return
			}
			halves.written <- struct{}{}
			<-halves.rest
			text = text[len(text)/2:]
		}
		if inPieces(conn, text, piece) != nil {
			return
		}
	}
}

// framed is a message as TCP carries it.
func framed(m []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...) }

// dialResolver opens a connection with the resolver.
func (s *scene) dialResolver(t *testing.T, from *insider, id int) {
	t.Helper()
	from.want(t, "ok", order{Do: "dial", ID: id, Network: "tcp", Address: at(s.ServerAddr, 53)})
}

// TestDNSOverTCP: an answer is read whole before the program has its last byte, however queries and answers are cut.
func TestDNSOverTCP(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	for i, piece := range []int{0, 1, 2, 3, 17} {
		t.Run(fmt.Sprintf("pieces of %d", piece), func(t *testing.T) {
			s.resolver.mu.Lock()
			s.resolver.piece = piece
			s.resolver.mu.Unlock()
			s.dialResolver(t, a, i)
			for n := range 2 {
				q := dnsmessage.Question{Name: dnsmessage.MustNewName(fmt.Sprintf("tcp%d-%d.good.example.", i, n)), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
				a.want(t, "ok", order{Do: "write", ID: i, Bytes: framed(query(uint16(n), q.Name.String(), q.Type)), Count: piece})
				r := a.do(t, order{Do: "message", ID: i, Wait: patience})
				if got := told(r.Bytes); len(got) != 1 || got[0] != unique(q)[0] {
					t.Fatalf("the answer is %s %v", r.Errno, got)
				}
				a.want(t, "ok", order{Do: "connect", Address: at(unique(q)[0], 443)})
				a.want(t, "EPERM", order{Do: "connect", Address: at(unique(q)[0], 80)})
			}
		})
	}
}

// TestPipelinedOverTCP: several queries in one segment, and several answers.
func TestPipelinedOverTCP(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	const count = 5
	var text []byte
	var asked []dnsmessage.Question
	for n := range count {
		q := dnsmessage.Question{Name: dnsmessage.MustNewName(fmt.Sprintf("pipe%d.good.example.", n)), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
		text, asked = append(text, framed(query(uint16(n), q.Name.String(), q.Type))...), append(asked, q)
	}
	var held [][]byte
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
		if held = append(held, answer(query, q, 60, unique(q)...)); len(held) < count {
			return nil
		}
		return held // all at once
	})
	s.dialResolver(t, a, 1)
	a.want(t, "ok", order{Do: "write", ID: 1, Bytes: text})
	for _, q := range asked {
		r := a.do(t, order{Do: "message", ID: 1, Wait: patience})
		if got := told(r.Bytes); len(got) != 1 || got[0] != unique(q)[0] {
			t.Fatalf("the answer for %s is %s %v", q.Name, r.Errno, got)
		}
		a.want(t, "ok", order{Do: "connect", Address: at(unique(q)[0], 443)})
	}
}

// TestForgedOverTCP: what is no answer, or cannot be read, does not arrive, and the connection ends.
func TestForgedOverTCP(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	evil := netip.MustParseAddr("10.66.6.6")
	for i, forge := range []struct {
		what   string
		reply  func(query []byte, q dnsmessage.Question) []byte
		reason event.Reason
	}{
		{"another id", func(query []byte, q dnsmessage.Question) []byte { query[1]++; return answer(query, q, 60, evil) }, event.ReasonUnasked},
		{"malformed", func(query []byte, q dnsmessage.Question) []byte { return append(answer(query, q, 60, evil), 0) }, event.ReasonMalformed},
		{"too long", func(query []byte, q dnsmessage.Question) []byte {
			return append(answer(query, q, 60, evil), make([]byte, 65535)...)[:65535]
		}, event.ReasonDNSStream},
	} {
		t.Run(forge.what, func(t *testing.T) {
			s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte { return [][]byte{forge.reply(query, q)} })
			s.dialResolver(t, a, 10+i)
			a.want(t, "ok", order{Do: "write", ID: 10 + i, Bytes: framed(query(uint16(i), "host.good.example.", dnsmessage.TypeA))})
			a.want(t, "ECONNRESET", order{Do: "message", ID: 10 + i, Wait: patience})
			a.want(t, "EPERM", order{Do: "connect", Address: at(evil, 443)})
			s.events.Wait(t, "the answer that was dropped", func(e event.Event) bool {
				return e.Kind == event.KindDNS && e.Verdict == event.VerdictDrop && e.Reason == forge.reason
			})
		})
	}
}

// TestTruncatedThenTCP: a resolver library asks again over TCP where UDP has no room, and connects to all that it is told.
func TestTruncatedThenTCP(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	const count = 120
	asked := 0
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
		if asked++; asked == 1 {
			short := answer(query, q, 60)
			short[2] |= 2 // TC
			return [][]byte{short}
		}
		var all []netip.Addr
		for i := range count {
			all = append(all, netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}))
		}
		return [][]byte{answer(query, q, 60, all...)}
	})
	a.want(t, "ok", order{Do: "lookup", Name: "many.good.example.", Address: at(s.ServerAddr, 53), Count: count})
}

// TestForgedFromElsewhere: what comes from another port than was asked fills nothing. From another address: see
// TestForgedFromAnotherAddress.
func TestForgedFromElsewhere(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	evil := netip.MustParseAddr("10.66.6.6")
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("host.good.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	s.resolver.with(func([]byte, dnsmessage.Question) [][]byte { return nil })
	a.want(t, "ok", order{Do: "open", ID: 1, Network: "udp4", Address: s.PodAddr.String() + ":5300"})
	asked := query(9, q.Name.String(), q.Type)
	a.want(t, "ok", order{Do: "send", ID: 1, Address: at(s.ServerAddr, 53), Bytes: asked})
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.PodAddr, 5300))
	s.Server.Do(t, func() error {
		conn, err := net.ListenPacket("udp4", at(s.ServerAddr, 5353))
		if err != nil {
			return err
		}
		_, err = conn.WriteTo(answer(asked, q, 60, evil), to)
		return errors.Join(err, conn.Close())
	})
	a.do(t, order{Do: "receive", ID: 1, Wait: impatience}) // whether it arrives is for rules of ingress
	a.want(t, "EPERM", order{Do: "connect", Address: at(evil, 443)})
	if _, err := s.resolver.conns[0].WriteTo(answer(asked, q, 60, unique(q)...), to); err != nil {
		t.Fatal(err)
	}
	r := a.do(t, order{Do: "receive", ID: 1, Wait: patience})
	if got := told(r.Bytes); len(got) != 1 || got[0] != unique(q)[0] {
		t.Errorf("the resolver's own answer is %s %v", r.Errno, got)
	}
	a.want(t, "ok", order{Do: "connect", Address: at(unique(q)[0], 443)})
}
