package names

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// TestFullMapsOfNames: where there is no room for a name, the answer arrives and what it tells may not be connected to; that is
// told, and over when there is room.
func TestFullMapsOfNames(t *testing.T) {
	for _, name := range []string{"name_by_hash", "names_by_addr", "names_of_cgrp"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, probes.Names{})
			a := newInsider(t, s.a)
			q := dnsmessage.Question{Name: dnsmessage.MustNewName("x.good.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
			ask := func(socket int) {
				t.Helper()
				if r := s.ask(t, a, socket, query(1, q.Name.String(), q.Type), patience); len(told(r.Bytes)) != 1 {
					t.Fatalf("the answer does not arrive: %s", r.Errno)
				}
			}
			free := attached.Fill(t, s.kernel.Maps().Map(name))
			ask(1)
			a.want(t, "EPERM", order{Do: "connect", Address: at(unique(q)[0], 443)})
			s.events.Counted(t, "names")
			s.events.Wait(t, "that there was no room", func(e event.Event) bool { return e.Kind == event.KindDNS && e.Reason == event.ReasonNamesFull })
			free()
			ask(2)
			a.want(t, "ok", order{Do: "connect", Address: at(unique(q)[0], 443)})
		})
	}
}

// TestFullRefusals: where nobody can be told at the veth that a query is refused, its send fails.
func TestFullRefusals(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	a.want(t, "ok", order{Do: "open", ID: 1, Network: "udp4", Address: ":0"})
	send := order{Do: "send", ID: 1, Address: at(s.ServerAddr, 53), Bytes: query(7, "secret.bad.example.", dnsmessage.TypeA)}
	free := attached.Fill(t, s.kernel.Maps().Map("refusals"))
	a.want(t, "EPERM", send)
	free()
	a.want(t, "ok", send)
	a.want(t, "ok", order{Do: "receive", ID: 1, Wait: patience})
	if s.resolver.wasAsked("secret.bad.example.") {
		t.Error("the denied query arrived at the resolver")
	}
}

// TestNoRoomToRead: where others are being read on every place of every CPU, neither query nor answer passes.
func TestNoRoomToRead(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	scratches := attached.Own(t, s.node, "gate_skb_egress", "dns_scratches")
	a.want(t, "ok", order{Do: "open", ID: 1, Network: "udp4", Address: ":0"})
	send := func(name string) order {
		return order{Do: "send", ID: 1, Address: at(s.ServerAddr, 53), Bytes: query(7, name, dnsmessage.TypeA)}
	}
	free := attached.Busy(t, scratches, 0) // struct dns_scratch begins with it
	_ = a.do(t, send("busy.good.example."))
	a.want(t, "timeout", order{Do: "receive", ID: 1, Wait: impatience})
	s.events.Counted(t, "dns_busy")
	if s.resolver.wasAsked("busy.good.example.") {
		t.Error("a query that nobody has read arrived at the resolver")
	}
	free()
	a.want(t, "ok", send("free.good.example."))
	if r := a.want(t, "ok", order{Do: "receive", ID: 1, Wait: patience}); len(told(r.Bytes)) != 1 {
		t.Error("the answer tells no address")
	}
}

// TestNoRoomForLongAnswers: where all rooms are held, a long answer waits until one is free.
func TestNoRoomForLongAnswers(t *testing.T) {
	s := newScene(t, probes.Names{Most: 20000})
	a := newInsider(t, s.a)
	rooms := s.kernel.Maps().Map("dns_rooms")
	hold := func(until uint64) {
		for place := range rooms.MaxEntries() {
			room := make([]byte, rooms.ValueSize())
			binary.NativeEndian.PutUint64(room[16:], until) // struct dns_room
			if err := rooms.Put(place, room); err != nil {
				t.Fatal(err)
			}
		}
	}
	const many = 200
	s.resolver.with(func(query []byte, q dnsmessage.Question) [][]byte {
		return [][]byte{answer(query, q, 60, lot(q.Type, 1, many)...)}
	})
	hold(1 << 62)
	s.dialResolver(t, a, 1)
	a.want(t, "ok", order{Do: "write", ID: 1, Bytes: framed(query(1, "many.good.example.", dnsmessage.TypeA))})
	a.want(t, "timeout", order{Do: "message", ID: 1, Wait: impatience})
	s.events.Counted(t, "dns_busy")
	hold(0)
	wantAll(t, a, 1, lot(dnsmessage.TypeA, 1, many))
}

// TestNoRoomForNames: where names are being judged on every place of every CPU, no rule by name allows.
func TestNoRoomForNames(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("x.good.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	s.ask(t, a, 1, query(1, q.Name.String(), q.Type), patience)
	connect := order{Do: "connect", Address: at(unique(q)[0], 443)}
	free := attached.Busy(t, attached.Own(t, s.node, connecting(t, s.node), "names_rooms"), 0) // struct names_room begins with it
	a.want(t, "EPERM", connect)
	free()
	a.want(t, "ok", connect)
}

// connecting is the pin of the program that judges connect.
func connecting(t *testing.T, node *pod.Node) string {
	t.Helper()
	for _, name := range []string{"judge_lsm_connect", "judge_fentry_connect", "judge_cgroup_connect4"} {
		if _, err := os.Stat(filepath.Join(node.BPFFS, "sallyport", "links", name)); err == nil {
			return name
		}
	}
	t.Fatal("nothing judges connect")
	return ""
}

// TestFloodOfNames: a container that asks for more names than it may have known gets its answers, and what they tell beyond is not
// known to it. It takes nothing from another container.
func TestFloodOfNames(t *testing.T) {
	const most = 64
	s := newScene(t, probes.Names{Most: most})
	a, b := newInsider(t, s.a), newInsider(t, s.b)
	ask := func(from *insider, i int) netip.Addr {
		t.Helper()
		q := dnsmessage.Question{Name: dnsmessage.MustNewName(fmt.Sprintf("x%d.good.example.", i)), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
		if r := s.ask(t, from, 1, query(uint16(i), q.Name.String(), q.Type), patience); len(told(r.Bytes)) != 1 {
			t.Fatalf("answer %d does not arrive: %s", i, r.Errno)
		}
		return unique(q)[0]
	}
	mine := ask(b, 0)
	var last netip.Addr
	for i := range testutil.Flood(t, 10*most, 2*most) {
		last = ask(a, i+1)
	}
	a.want(t, "EPERM", order{Do: "connect", Address: at(last, 443)})
	b.want(t, "ok", order{Do: "connect", Address: at(mine, 443)})
	b.want(t, "ok", order{Do: "connect", Address: at(ask(b, -1), 443)})
	s.events.Wait(t, "that there was no room", func(e event.Event) bool { return e.Kind == event.KindDNS && e.Reason == event.ReasonNamesFull })
}

// TestNoMemoryForQueries: a query that cannot be kept with its socket does not leave.
func TestNoMemoryForQueries(t *testing.T) {
	s := newScene(t, probes.Names{})
	a := newInsider(t, s.a)
	a.want(t, "ok", order{Do: "open", ID: 1, Network: "udp4", Address: ":0"})
	send := order{Do: "send", ID: 1, Address: at(s.ServerAddr, 53), Bytes: query(7, "kept.good.example.", dnsmessage.TypeA)}
	free := s.Pod.LimitOptions(t, 1)
	a.want(t, "EPERM", send)
	s.events.Counted(t, "socket_storage")
	if s.resolver.wasAsked("kept.good.example.") {
		t.Error("the query arrived at the resolver")
	}
	free()
	a.want(t, "ok", send)
}
