package parse

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// Hello is what was read of a ClientHello.
type Hello struct {
	Name      string // "" if none is asked for
	Protocols bool   // some are offered
	HTTP1     bool
	HTTP2     bool
	Other     bool
	Encrypted bool // there is another ClientHello inside, or a decoy of one
}

// The flaws of a ClientHello, as enum hello_flaw of bpf/include/parse/clienthello.h.
const (
	HelloSound Flaw = iota
	HelloRecord
	HelloMessage
	HelloName
	HelloEarly
)

// ClientHello is the C parser of ClientHellos as a process.
type ClientHello struct{ program *program }

// StartClientHello compiles it and starts it, as Start does.
func StartClientHello(t testing.TB) *ClientHello {
	t.Helper()
	return &ClientHello{start(t, "clienthello.c")}
}

// Read reads what a client sends first. whole is false when its end has not come, or with a flaw. The process
// splits the bytes at every place and ends when that makes a difference.
func (p *ClientHello) Read(t testing.TB, stream []byte) (h Hello, whole bool, flaw Flaw) {
	t.Helper()
	h, whole, flaw, _ = p.Follow(t, stream)
	return h, whole, flaw
}

// Follow also says what comes behind the first message: "more" (that is not to be seen yet), "over" (no other
// that asks for a name), or "bad" and the flaw.
func (p *ClientHello) Follow(t testing.TB, stream []byte) (h Hello, whole bool, flaw Flaw, then string) {
	t.Helper()
	line := p.program.ask(t, hex.EncodeToString(stream))
	if line == "more" {
		return h, false, HelloSound, ""
	}
	if n, err := fmt.Sscanf(line, "bad %x", &flaw); n == 1 && err == nil {
		return h, false, flaw, ""
	}
	fields := strings.SplitN(line, " ", 4)
	var flags int
	if _, err := fmt.Sscanf(line, "done %x", &flags); err != nil || len(fields) != 4 {
		t.Fatalf("the parser says %q: %v", line, err)
	}
	name, err := hex.DecodeString(fields[2])
	if err != nil {
		t.Fatalf("the parser says %q: %v", line, err)
	}
	return Hello{string(name), flags&2 != 0, flags&4 != 0, flags&8 != 0, flags&16 != 0, flags&32 != 0}, true, HelloSound, fields[3]
}

// errSeen ends a handshake whose ClientHello was read.
var errSeen = errors.New("seen")

// onlyIn is a connection on which some bytes come in, and nothing goes out.
type onlyIn struct {
	net.Conn
	in io.Reader
}

func (c onlyIn) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c onlyIn) Write(b []byte) (int, error) { return len(b), nil }
func (c onlyIn) Close() error                { return nil }

// ReferenceHello is what crypto/tls reads of the same bytes; ok is false when it takes them for no ClientHello.
func ReferenceHello(stream []byte) (h Hello, ok bool) {
	server := tls.Server(onlyIn{in: bytes.NewReader(stream)}, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			h = Hello{Name: strings.ToLower(info.ServerName), Protocols: info.SupportedProtos != nil}
			for _, p := range info.SupportedProtos {
				switch p {
				case "h2":
					h.HTTP2 = true
				case "http/1.1", "http/1.0":
					h.HTTP1 = true
				default:
					h.Other = true
				}
			}
			ok = true
			return nil, errSeen
		},
	})
	if err := server.Handshake(); err == nil {
		panic("a handshake without a certificate")
	}
	return h, ok
}

// MakeHello is what a client of crypto/tls sends first.
func MakeHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close() //nolint:errcheck // in memory
	defer server.Close() //nolint:errcheck // in memory
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, config).HandshakeContext(ctx) // ends with cancel
	}()
	_ = server.SetReadDeadline(time.Now().Add(10 * time.Second)) // pipes take them
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	return slices.Concat(head, body)
}
