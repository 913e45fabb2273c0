package parse

import (
	"crypto/tls"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

// hellos are ClientHellos of crypto/tls, and what they ask for.
func hellos(t testing.TB) map[string]Hello {
	t.Helper()
	out := map[string]Hello{}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, name := range []string{"", "a", "Api.Example", "xn--bcher-kva.example", strings.Repeat("a.", 120) + "b"} {
			for _, protocols := range [][]string{nil, {"h2"}, {"http/1.1"}, {"h2", "http/1.1", "x"}, {"http/1.0", strings.Repeat("y", 200)}} {
				raw := MakeHello(t, &tls.Config{ServerName: name, NextProtos: protocols, MaxVersion: version, InsecureSkipVerify: true})
				want := Hello{Name: strings.ToLower(name), Protocols: protocols != nil}
				for _, p := range protocols {
					want.HTTP1 = want.HTTP1 || strings.HasPrefix(p, "http/1.")
					want.HTTP2 = want.HTTP2 || p == "h2"
					want.Other = want.Other || p == "x" || p[0] == 'y'
				}
				out[string(raw)] = want
			}
		}
	}
	return out
}

// Every client's hello is read, at every place where it can be split, whatever records it comes in.
func TestClientHellos(t *testing.T) {
	p := StartClientHello(t)
	for raw, want := range hellos(t) {
		got, whole, flaw := p.Read(t, []byte(raw))
		if got != want || !whole || flaw != HelloSound {
			t.Errorf("%+v, whole %v, flaw %d; want %+v: %x", got, whole, flaw, want, raw)
		}
		if ref, ok := ReferenceHello([]byte(raw)); !ok || ref != want {
			t.Fatalf("crypto/tls reads %+v, %v of its own %+v", ref, ok, want)
		}
		for _, size := range []int{7, 100, 16384} {
			if got, whole, flaw := p.Read(t, inRecords([]byte(raw), max(size, len(raw)/50))); got != want || !whole || flaw != HelloSound {
				t.Errorf("in records of %d: %+v, whole %v, flaw %d; want %+v", size, got, whole, flaw, want)
			}
		}
		for _, end := range []int{0, 1, 5, 9, len(raw) / 2, len(raw) - 1} {
			if _, whole, flaw := p.Read(t, []byte(raw[:end])); whole || flaw != HelloSound {
				t.Errorf("its first %d bytes: whole %v, flaw %d", end, whole, flaw)
			}
		}
	}
}

// What two servers could read in two ways is refused.
func TestAmbiguousClientHellos(t *testing.T) {
	p := StartClientHello(t)
	for _, v := range HelloVectors() {
		got, whole, flaw, then := p.Follow(t, v.Stream)
		if flaw != v.Flaw || then != v.Then || whole != (v.Then != "") {
			t.Errorf("%s: whole %v, flaw %d, then %q; want %d, %q", v.Name, whole, flaw, then, v.Flaw, v.Then)
		}
		if v.Name == "an encrypted one inside" && (!got.Encrypted || got.Name != "decoy") {
			t.Errorf("%s: %+v", v.Name, got)
		}
	}
}

// checkHello holds the parser against crypto/tls: what it reads whole, that must read alike. It says whether it
// did.
func checkHello(t testing.TB, p *ClientHello, stream []byte) bool {
	t.Helper()
	got, whole, flaw := p.Read(t, stream)
	want, ok := ReferenceHello(stream)
	if !whole {
		return false
	}
	got.Encrypted = false // the reference does not say
	if ok && got != want {
		t.Fatalf("%+v, flaw %d; crypto/tls reads %+v of %x", got, flaw, want, stream)
	}
	return ok
}

// TestHelloMutations changes good hellos a little.
func TestHelloMutations(t *testing.T) {
	p := StartClientHello(t)
	rounds := 5000
	if testing.Short() {
		rounds = 1000
	}
	r := rand.New(rand.NewPCG(5, 2))
	var all []string
	for raw := range hellos(t) {
		all = append(all, raw)
	}
	alike := 0
	for range rounds {
		raw := []byte(all[r.IntN(len(all))])
		for range 1 + r.IntN(3) {
			at := r.IntN(len(raw))
			switch r.IntN(3) {
			case 0:
				raw[at] = byte(r.Uint32())
			case 1:
				raw[at] ^= 1 << r.IntN(8)
			default:
				raw = append(raw[:at], raw[min(at+1, len(raw)-1):]...)
			}
		}
		if checkHello(t, p, raw) {
			alike++
		}
	}
	if alike < rounds/20 {
		t.Errorf("only %d of %d were read by both", alike, rounds)
	}
}

func FuzzClientHello(f *testing.F) {
	p := StartClientHello(f)
	f.Add(helloWith(extension(0, sized("\x00"+sized("a.example"))), extension(16, sized("\x02h2\x08http/1.1"))))
	if raw, err := hex.DecodeString("160301000401000000"); err == nil {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, stream []byte) { checkHello(t, p, stream) })
}
