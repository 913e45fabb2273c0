package parse

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
)

// recorded keeps what is written to a connection.
type recorded struct {
	net.Conn
	sent bytes.Buffer
}

func (c *recorded) Write(b []byte) (int, error) {
	c.sent.Write(b)
	return c.Conn.Write(b)
}

// clientBytes are what a client sends that shakes hands with a server and says a word.
func clientBytes(t *testing.T, client, server *tls.Config) []byte {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, conn) // ends with the client
		}
	}()
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	record := &recorded{Conn: near}
	if _, err := tls.Client(record, client).Write([]byte("word")); err != nil {
		t.Fatal(err)
	}
	return record.sent.Bytes()
}

// TestSecondHello: a second ClientHello, which servers ask for that want another key, must ask for the same name, and what
// comes in its place says that there is none.
func TestSecondHello(t *testing.T) {
	p := StartClientHello(t)
	client := func(name string, version uint16) *tls.Config {
		return &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: version, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}}
	}
	borrowed := httptest.NewTLSServer(nil) // for its certificate
	defer borrowed.Close()
	server := &tls.Config{Certificates: borrowed.TLS.Certificates}
	retrying := server.Clone()
	retrying.CurvePreferences = []tls.CurveID{tls.CurveP256}
	for what, c := range map[string]struct {
		client, server *tls.Config
		hellos         int
	}{
		"TLS 1.2":            {client("api.example", tls.VersionTLS12), server, 1},
		"TLS 1.3":            {client("api.example", tls.VersionTLS13), server, 1},
		"asked again":        {client("api.example", tls.VersionTLS13), retrying, 2},
		"without a name":     {client("", tls.VersionTLS13), server, 1},
		"asked again so":     {client("", tls.VersionTLS13), retrying, 2},
		"an address":         {client("192.0.2.1", tls.VersionTLS13), retrying, 2},
		"a long name, again": {client(strings.Repeat("a.", 120)+"b", tls.VersionTLS13), retrying, 2},
	} {
		stream := clientBytes(t, c.client, c.server)
		h, whole, flaw, then := p.Follow(t, stream)
		if want, _ := ReferenceHello(stream); !whole || h.Name != want.Name || then != "over" {
			t.Errorf("%s: %+v, whole %v, flaw %d, then %s", what, h, whole, flaw, then)
		}
		first := 5 + int(stream[3])<<8 + int(stream[4])
		if _, _, _, then := p.Follow(t, stream[:first]); then != "more" {
			t.Errorf("%s: then %s after the first message", what, then)
		}
		if again := bytes.Contains(stream[first:], []byte("\x16\x03\x03")) && c.hellos == 2; again != (c.hellos == 2) {
			t.Fatalf("%s: a second message: %v", what, again)
		}
	}
}
