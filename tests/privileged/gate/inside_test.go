package gate

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

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
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

// order is one thing to do. Which fields count depends on Do.
type order struct {
	Do      string
	ID      int // of a connection, chosen by who orders
	Network string
	Address string
	Bytes   int
	Count   int
	Port    int
	Option  int // of a socket, for setsockopt and getsockopt at level
	Level   int
	Value   int
}

// patience is how long a socket waits for what should come.
const (
	patience   = 20 * time.Second
	impatience = 700 * time.Millisecond // where nothing should come
)

// obey does what it is told, line by line, until its input ends. It answers every order with one line: ok, an errno's
// name, timeout, or a text.
func obey(in io.Reader, out io.Writer) {
	conns := map[int]net.Conn{}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var o order
		answer := "ok"
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			answer = err.Error()
		} else if value, err := o.run(conns); err != nil {
			answer = errorName(err)
		} else if value != "" {
			answer = value
		}
		_, _ = fmt.Fprintln(out, strings.ReplaceAll(answer, "\n", " ")) // who does not hear the answer ends the process
	}
}

func errorName(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return err.Error()
}

func (o order) run(conns map[int]net.Conn) (string, error) {
	switch o.Do {
	case "dial":
		dialer := net.Dialer{Timeout: patience}
		conn, err := dialer.Dial(o.Network, o.Address)
		if err == nil {
			conns[o.ID] = conn
		}
		return "", err
	case "open": // a UDP socket with a port and no peer
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: o.Port})
		if err == nil {
			conns[o.ID] = conn
		}
		return "", err
	case "send":
		_, err := conns[o.ID].(*net.UDPConn).WriteToUDPAddrPort(make([]byte, o.Bytes), netip.MustParseAddrPort(o.Address))
		return "", err
	case "echo":
		return "", roundTrip(conns[o.ID], o.Bytes, patience)
	case "push":
		_, err := conns[o.ID].Write(make([]byte, o.Bytes))
		return "", err
	case "await": // the error that the network answers a datagram with
		return "", awaitError(conns[o.ID])
	case "close":
		return "", conns[o.ID].Close()
	case "option":
		return "", control(conns[o.ID], func(fd int) error { return unix.SetsockoptInt(fd, o.Level, o.Option, o.Value) })
	case "value":
		var value int
		err := control(conns[o.ID], func(fd int) (err error) { value, err = unix.GetsockoptInt(fd, o.Level, o.Option); return err })
		return fmt.Sprint(value), err
	case "serve":
		return "", serve(o.Network, o.Address)
	case "burst":
		return "", burst(o.Address, o.Count)
	case "address":
		return "", addAddress("eth0", o.Address)
	case "frames":
		return "", o.frames(conns[o.ID])
	}
	return "", fmt.Errorf("there is no order %s", o.Do)
}

// roundTrip sends bytes and reads as many back.
func roundTrip(conn net.Conn, size int, wait time.Duration) error {
	if conn == nil {
		return errors.New("there is no such connection")
	}
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { _, err := conn.Write(make([]byte, size)); sent <- err }()
	_, err := io.ReadFull(conn, make([]byte, size))
	if failed := <-sent; failed != nil {
		return failed // EPERM of a send says more than the answer that did not come
	}
	return err
}

func awaitError(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	if err == nil {
		return errors.New("an answer came")
	}
	return err
}

func control(conn net.Conn, f func(fd int) error) error {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return errors.New("there is no such connection")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	return errors.Join(raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner)
}

// serve echoes on an address until the process ends.
func serve(network, address string) error {
	if strings.HasPrefix(network, "udp") {
		conn, err := net.ListenPacket(network, address)
		if err != nil {
			return err
		}
		go func() {
			b := make([]byte, 1<<16)
			for {
				n, from, err := conn.ReadFrom(b)
				if err != nil {
					continue // an ICMP error to an earlier answer
				}
				_, _ = conn.WriteTo(b[:n], from) // who does not hear the answer will say so
			}
		}()
		return nil
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }() // ends with the connection
		}
	}()
	return nil
}

// burst sends one datagram from each of many ports, and to another port when those come again: as many flows.
func burst(address string, count int) error {
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return err
	}
	for i := range count {
		conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: to.IP, Port: to.Port + i>>14})
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("burst"))
		if err = errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
	return nil
}

func addAddress(link, address string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if strings.Contains(address, ":") {
		addr.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(l, addr)
}

// frames puts frames made by hand on eth0, around every socket: datagrams of an IPv4 connection's own tuple, but to
// o.Port, with o.Value as VLAN tag unless that is 0, to the hardware address o.Address.
func (o order) frames(conn net.Conn) error {
	if conn == nil {
		return errors.New("there is no such connection")
	}
	local, remote := conn.LocalAddr().(*net.UDPAddr), conn.RemoteAddr().(*net.UDPAddr)
	gateway, err := net.ParseMAC(o.Address)
	if err != nil {
		return err
	}
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	ethernet := &layers.Ethernet{SrcMAC: eth0.HardwareAddr, DstMAC: gateway, EthernetType: layers.EthernetTypeIPv4}
	stack := []gopacket.SerializableLayer{ethernet}
	if o.Value != 0 {
		ethernet.EthernetType = layers.EthernetTypeDot1Q
		stack = append(stack, &layers.Dot1Q{VLANIdentifier: uint16(o.Value), Type: layers.EthernetTypeIPv4})
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: local.IP, DstIP: remote.IP}
	udp := &layers.UDP{SrcPort: layers.UDPPort(local.Port), DstPort: layers.UDPPort(o.Port)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return err
	}
	b := gopacket.NewSerializeBuffer()
	stack = append(stack, ip, udp, gopacket.Payload("frame"))
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for range o.Count {
		if err = unix.Sendto(fd, b.Bytes(), 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index}); err != nil {
			break
		}
	}
	return errors.Join(err, unix.Close(fd))
}

// insider is a process inside a container that takes orders.
type insider struct {
	process *pod.Process
	orders  io.WriteCloser
	answers *bufio.Scanner
}

// newInsider starts one. The first of a container is its Main.
func newInsider(t *testing.T, c *pod.Container) *insider {
	t.Helper()
	p := c.Command("/proc/self/exe", insideArg)
	orders, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout = nil
	answers, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	t.Cleanup(func() {
		_ = orders.Close() // ends it
		_ = p.Wait()       // killed or ended: both are fine
	})
	return &insider{process: p, orders: orders, answers: bufio.NewScanner(answers)}
}

// do gives an order and returns the answer.
func (i *insider) do(t *testing.T, o order) string {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.orders.Write(append(b, '\n')); err != nil {
		t.Fatal("ordering a process in a container: ", err)
	}
	if !i.answers.Scan() {
		t.Fatalf("a process in a container ended without an answer to %+v: %s", o, i.process.Complaint())
	}
	return i.answers.Text()
}

// want gives an order that must be answered so.
func (i *insider) want(t *testing.T, answer string, o order) {
	t.Helper()
	if got := i.do(t, o); got != answer {
		t.Errorf("%s %s %s: %s, want %s", o.Do, o.Network, o.Address, got, answer)
	}
}
