package parse

import (
	"bytes"
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

// inRecords splits a ClientHello of one record into several.
func inRecords(hello []byte, size int) []byte {
	var out []byte
	for body := hello[5:]; len(body) > 0; {
		n := min(size, len(body))
		out = append(append(out, hello[0], hello[1], hello[2], byte(n>>8), byte(n)), body[:n]...)
		body = body[n:]
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

// extension is one as it stands in a ClientHello.
func extension(kind int, body string) string {
	return string([]byte{byte(kind >> 8), byte(kind), byte(len(body) >> 8), byte(len(body))}) + body
}

// sized is text behind its length in two bytes.
func sized(text string) string { return string([]byte{byte(len(text) >> 8), byte(len(text))}) + text }

// helloWith is a ClientHello of TLS 1.2 with these extensions.
func helloWith(extensions ...string) []byte {
	all := strings.Join(extensions, "")
	body := "\x03\x03" + strings.Repeat("r", 32) + "\x00" + "\x00\x02\xc0\x2f" + "\x01\x00" + sized(all)
	message := string([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}) + body
	return []byte("\x16\x03\x01" + sized(message))
}

// What two servers could read in two ways is refused.
func TestAmbiguousClientHellos(t *testing.T) {
	p := StartClientHello(t)
	host := func(name string) string { return "\x00" + sized(name) }
	name := func(text string) string { return extension(0, sized(host(text))) }
	whole := helloWith(name("a"))
	for what, v := range map[string]struct {
		stream []byte
		flaw   Flaw
	}{
		"a name":                    {whole, HelloSound},
		"bytes behind it":           {append(bytes.Clone(whole), "more"...), HelloSound},
		"two extensions of names":   {helloWith(name("a"), name("b")), HelloName},
		"two names in one":          {helloWith(extension(0, sized(host("a")+host("b")))), HelloName},
		"a name of another kind":    {helloWith(extension(0, sized("\x01"+sized("a")))), HelloName},
		"an empty name":             {helloWith(name("")), HelloName},
		"a dot behind it":           {helloWith(name("a.")), HelloName},
		"a dot before it":           {helloWith(name(".a")), HelloName},
		"two dots":                  {helloWith(name("a..b")), HelloName},
		"a NUL in it":               {helloWith(name("a\x00b")), HelloName},
		"a blank in it":             {helloWith(name("a b")), HelloName},
		"a long name":               {helloWith(name(strings.Repeat("a", 256))), HelloName},
		"a name longer than said":   {helloWith(extension(0, sized(host("a")+"b"))), HelloName},
		"two lists of protocols":    {helloWith(extension(16, sized("\x02h2")), extension(16, sized("\x02h2"))), HelloMessage},
		"an empty protocol":         {helloWith(extension(16, sized("\x00\x02h2"))), HelloMessage},
		"a protocol past the list":  {helloWith(extension(16, sized("\x09h2"))), HelloMessage},
		"an extension past the end": {helloWith("\x00\x2b\x00\x09x"), HelloMessage},
		"half an extension":         {helloWith("\x00\x2b\x00"), HelloMessage},
		"early data":                {helloWith(name("a"), extension(42, "")), HelloEarly},
		"plain HTTP":                {[]byte("GET / HTTP/1.1\r\n"), HelloRecord},
		"SSL 2":                     {[]byte("\x80\x2e\x01\x03\x01"), HelloRecord},
		"application data":          {[]byte("\x17\x03\x03\x00\x05hello"), HelloRecord},
		"an empty record":           {[]byte("\x16\x03\x01\x00\x00"), HelloRecord},
		"a ServerHello":             {[]byte("\x16\x03\x01\x00\x04\x02\x00\x00\x00"), HelloMessage},
		"a message without end":     {[]byte("\x16\x03\x01\x00\x04\x01\x7f\xff\xff"), HelloMessage},
	} {
		if _, _, flaw := p.Read(t, v.stream); flaw != v.flaw {
			t.Errorf("%s: flaw %d, want %d", what, flaw, v.flaw)
		}
	}
	if got, whole, _ := p.Read(t, helloWith(name("decoy"), extension(0xfe0d, "\x00"))); !whole || !got.Encrypted || got.Name != "decoy" {
		t.Errorf("an encrypted ClientHello inside: %+v", got)
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
