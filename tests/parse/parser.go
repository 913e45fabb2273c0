// Package parse holds the kernel programs' parsers of hostile bytes (bpf/include/parse) against other people's: the same
// C, compiled for the host with the sanitizers on. It imports tests/testutil only.
package parse

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// Address is an address that an answer gives for the name in its question, and for how many seconds.
type Address struct {
	Addr netip.Addr
	TTL  uint32
}

// Message is what the parser read of a message.
type Message struct {
	ID, Flags, Type, Class uint16
	Lower                  bool   // the name is spelt in lower case
	Name                   string // of the question, in lower case, without the last dot
	Addresses              []Address
}

// Parser is the C parser as a process that answers one message after another.
type Parser struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// Start compiles the parser and starts it. Without a C compiler t is skipped, or fails as testutil.Unsupported says.
func Start(t testing.TB) *Parser {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		testutil.Unsupported(t, "cc", err.Error())
	}
	program := filepath.Join(t.TempDir(), "dns")
	build := exec.CommandContext(t.Context(), "cc", "-O1", "-g", "-std=gnu11", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-Wall", "-Wextra", "-Wno-unused-parameter", "-I../../bpf/include", "-o", program, "dns.c")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compiling the parser: %v\n%s", err, out)
	}
	cmd := exec.Command(program)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal("starting the parser: ", err)
	}
	t.Cleanup(func() {
		_ = in.Close() // what tells it to end
		if err := cmd.Wait(); err != nil {
			t.Error("the parser, or a sanitizer in it, ended badly: ", err)
		}
	})
	return &Parser{in, bufio.NewReaderSize(out, 1<<20)}
}

// Read parses a message, an answer or else a query. ok is false when it is malformed.
func (p *Parser) Read(t testing.TB, answer bool, message []byte) (m Message, ok bool) {
	t.Helper()
	kind := "q "
	if answer {
		kind = "a "
	}
	if _, err := io.WriteString(p.in, kind+hex.EncodeToString(message)+"\n"); err != nil {
		t.Fatalf("giving the parser %x: %v", message, err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("reading what the parser says of %x: %v", message, err)
	}
	line = strings.TrimSuffix(line, "\n")
	if line == "bad" {
		return Message{}, false
	}
	var lower int
	var name string
	fields := strings.Split(line, " ")
	if _, err := fmt.Sscanf(strings.Join(fields[:5], " "), "%x %x %x %x %d:%s", &m.ID, &m.Flags, &m.Type, &m.Class, &lower, &name); err != nil && name != "" {
		t.Fatalf("the parser says %q: %v", line, err)
	}
	text, err := hex.DecodeString(name)
	if err != nil {
		t.Fatalf("the parser says %q: %v", line, err)
	}
	m.Lower, m.Name = lower == 1, string(text)
	for _, field := range fields[5:] {
		m.Addresses = append(m.Addresses, addressOf(t, field))
	}
	return m, true
}

func addressOf(t testing.TB, field string) Address {
	t.Helper()
	text, ttl, _ := strings.Cut(field, "/")
	raw, err := hex.DecodeString(text)
	addr, ok := netip.AddrFromSlice(raw)
	var a Address
	if _, scanErr := fmt.Sscanf(ttl, "%x", &a.TTL); err != nil || scanErr != nil || !ok {
		t.Fatalf("the parser says %q: %v %v", field, err, scanErr)
	}
	a.Addr = addr.Unmap()
	return a
}
