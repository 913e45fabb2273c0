package names

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// insideArg makes the test binary the process inside a container that the tests give orders to.
const insideArg = "sallyport-inside"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == insideArg {
		obey(os.Stdin, os.Stdout)
		return
	}
	inventory.Main(m, attached.Free)
}

// patience is how long something that should come is waited for.
const (
	patience   = 10 * time.Second
	impatience = 500 * time.Millisecond // where nothing should come
)

// order is one thing to do. Which fields count depends on Do.
type order struct {
	Do      string
	ID      int // of a socket, chosen by who orders
	Network string
	Address string
	Local   string // of a dial; empty: any; of a mount: what is hidden
	Bytes   []byte
	Name    string // %d is the round
	Count   int
	Wait    time.Duration
	Args    []string // of a program
}

// report is what came of it.
type report struct {
	Errno  string // "ok", an errno's name, or "timeout"
	Bytes  []byte
	Missed int // rounds in which a told address could not be connected to
	Lost   int // rounds in which no answer came
}

// obey does what it is told, line by line, until its input ends.
func obey(in io.Reader, out io.Writer) {
	inside := &inside{conns: map[int]net.PacketConn{}, streams: map[int]net.Conn{}}
	encode := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o order
		var r report
		err := json.Unmarshal(lines.Bytes(), &o)
		if err == nil {
			r, err = inside.do(o)
		}
		r.Errno = errorName(err)
		if encode.Encode(r) != nil {
			return
		}
	}
}

func errorName(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return err.Error()
}

type inside struct {
	conns   map[int]net.PacketConn
	streams map[int]net.Conn
}

func (i *inside) do(o order) (r report, err error) {
	switch o.Do {
	case "open": // a UDP socket that is not connected
		i.conns[o.ID], err = net.ListenPacket(o.Network, o.Address)
	case "send":
		_, err = i.conns[o.ID].WriteTo(o.Bytes, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(o.Address)))
	case "receive":
		if err = i.conns[o.ID].SetReadDeadline(time.Now().Add(o.Wait)); err == nil {
			b := make([]byte, 1<<16)
			var n int
			n, _, err = i.conns[o.ID].ReadFrom(b)
			r.Bytes = b[:n]
		}
	case "connect":
		err = connect(netip.MustParseAddrPort(o.Address))
	case "dial":
		d := net.Dialer{Timeout: patience}
		if o.Local != "" {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(o.Local))
		}
		i.streams[o.ID], err = d.Dial(o.Network, o.Address)
	case "close":
		err = i.streams[o.ID].Close()
	case "write": // to a stream, Count bytes at a time
		err = inPieces(i.streams[o.ID], o.Bytes, o.Count)
	case "read": // what there is next, from a stream
		if err = i.streams[o.ID].SetReadDeadline(time.Now().Add(o.Wait)); err == nil {
			r.Bytes = make([]byte, 1<<10)
			var n int
			n, err = i.streams[o.ID].Read(r.Bytes)
			r.Bytes = r.Bytes[:n]
		}
	case "message": // of DNS, from a stream
		r.Bytes, err = message(i.streams[o.ID], o.Wait)
	case "lookup": // as Go's resolver does
		err = lookUp(o)
	case "run": // a program, whose output is wanted
		r.Bytes, err = run(o)
	case "mount": // a file over another
		err = unix.Mount(o.Name, o.Local, "", unix.MS_BIND, "")
	case "echo":
		err = echo(i.streams[o.ID])
	case "rounds":
		r.Missed, r.Lost, err = rounds(o)
	default:
		err = fmt.Errorf("there is no order %s", o.Do)
	}
	return r, err
}

// connect connects a UDP socket: nothing is sent, and the call is judged all the same.
func connect(at netip.AddrPort) error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	return conn.Close()
}

func echo(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 5))
	return err
}

// rounds asks for a name of each round, and connects to every address at once.
func rounds(o order) (missed, lost int, err error) {
	conn, err := net.Dial("udp", o.Address)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = conn.Close() }() // only read from
	b := make([]byte, 1<<16)
	for round := range o.Count {
		kind := dnsmessage.TypeA
		if round%2 == 1 {
			kind = dnsmessage.TypeAAAA
		}
		name := strings.ReplaceAll(o.Name, "%d", fmt.Sprint(round))
		if _, err := conn.Write(query(uint16(round), name, kind)); err != nil {
			return missed, lost, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(o.Wait)); err != nil {
			return missed, lost, err
		}
		n, err := conn.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			lost++
			continue
		}
		if err != nil {
			return missed, lost, err
		}
		addresses := told(b[:n])
		if len(addresses) == 0 {
			return missed, lost, fmt.Errorf("round %d: an answer without addresses", round)
		}
		for _, a := range addresses {
			if connect(netip.AddrPortFrom(a, 443)) != nil {
				missed++
			}
		}
	}
	return missed, lost, nil
}

// query is a query with an EDNS0 record.
func query(id uint16, name string, kind dnsmessage.Type) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	must(b.StartQuestions())
	must(b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}))
	must(b.StartAdditionals())
	var h dnsmessage.ResourceHeader
	must(h.SetEDNS0(4096, 0, false))
	must(b.OPTResource(h, dnsmessage.OPTResource{}))
	message, err := b.Finish()
	must(err)
	return message
}

// must ends the test for what cannot fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// told lists the addresses of an answer.
func told(message []byte) (out []netip.Addr) {
	var m dnsmessage.Message
	if m.Unpack(message) != nil {
		return nil
	}
	for _, r := range m.Answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			out = append(out, netip.AddrFrom16(body.AAAA))
		}
	}
	return out
}

// insider is the process inside a container.
type insider struct {
	in  io.Writer
	out *json.Decoder
}

func newInsider(t *testing.T, c *pod.Container) *insider {
	t.Helper()
	self, err := os.Executable()
	must(err)
	p := c.Command(self, insideArg)
	p.Stdout, p.Stderr = nil, os.Stderr
	in, err := p.StdinPipe()
	must(err)
	out, err := p.StdoutPipe()
	must(err)
	p.Start(t)
	t.Cleanup(func() {
		_ = in.Close() // what tells it to end
		_ = p.Wait()
	})
	return &insider{in, json.NewDecoder(out)}
}

// do gives an order and returns what came of it.
func (i *insider) do(t *testing.T, o order) report {
	t.Helper()
	line, err := json.Marshal(o)
	must(err)
	if _, err := i.in.Write(append(line, '\n')); err != nil {
		t.Fatal("giving an order: ", err)
	}
	var r report
	if err := i.out.Decode(&r); err != nil {
		t.Fatalf("hearing what came of %+v: %v", o, err)
	}
	return r
}

// want gives an order and says what should come of it.
func (i *insider) want(t *testing.T, errno string, o order) report {
	t.Helper()
	r := i.do(t, o)
	if r.Errno != errno {
		t.Errorf("%s %s: %s, want %s", o.Do, o.Address, r.Errno, errno)
	}
	return r
}
