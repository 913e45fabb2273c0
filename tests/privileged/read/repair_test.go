package read

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
)

// repairArg makes the test binary a client that repairs its socket to send at sequence numbers that were read before.
const repairArg = "sallyport-repair"

// The queues of TCP_REPAIR_QUEUE.
const (
	receiveQueue = 1
	sendQueue    = 2
)

// repair sends an allowed request to addr, takes the connection back without the server's knowledge, and sends a denied
// one of the same length in its place.
func repair(addr netip.AddrPort) error {
	const said, evil = "POST /v1/request-landing HTTP/1.1\r\nHost: a\r\n\r\n", "PUT /v1/exhaust-port HTTP/1.1\r\nHost: abcdef\r\n\r\n"
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	patience := unix.Timeval{Sec: 5}
	for _, name := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, name, &patience); err != nil {
			return err
		}
	}
	server := &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	if err := unix.Connect(fd, server); err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte(said)); err != nil {
		return err
	}
	if _, err := unix.Read(fd, make([]byte, 1<<12)); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	option := func(name, value int) {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, name, value))
	}
	next := map[int]int{}
	option(unix.TCP_REPAIR, 1)
	for _, queue := range []int{receiveQueue, sendQueue} {
		option(unix.TCP_REPAIR_QUEUE, queue)
		seq, e := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
		next[queue], err = seq, errors.Join(err, e)
	}
	var nobody unix.RawSockaddrAny // AF_UNSPEC
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nobody)), unix.SizeofSockaddrInet4); errno != 0 {
		return fmt.Errorf("disconnecting: %w", errno)
	}
	option(unix.TCP_REPAIR, 1)
	err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	err = errors.Join(err, unix.Bind(fd, local))
	for queue, seq := range map[int]int{receiveQueue: next[receiveQueue], sendQueue: int(int32(uint32(next[sendQueue]) - uint32(len(said))))} {
		option(unix.TCP_REPAIR_QUEUE, queue)
		option(unix.TCP_QUEUE_SEQ, seq)
	}
	if err = errors.Join(err, unix.Connect(fd, server)); err != nil {
		return fmt.Errorf("connecting again: %w", err)
	}
	window := make([]byte, 0, 20) // struct tcp_repair_window
	for _, word := range []int{next[receiveQueue], 1 << 15, 1 << 15, 1 << 15, next[receiveQueue]} {
		window = binary.NativeEndian.AppendUint32(window, uint32(word))
	}
	err = errors.Join(err, unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_WINDOW, string(window)))
	option(unix.TCP_REPAIR, 0)
	if err != nil {
		return fmt.Errorf("ending the repair: %w", err)
	}
	_, err = unix.Write(fd, []byte(evil))
	return err
}

// repaired does that, and says when it is done.
func repaired(addr string) error {
	to, err := netip.ParseAddrPort(addr)
	if err == nil {
		err = repair(to)
	}
	if err == nil {
		fmt.Print("sent")
	}
	return err
}

// TestRepairedSocket: sequence numbers that were read on a former connection of a socket say nothing of the next one, also
// where that begins without a SYN.
func TestRepairedSocket(t *testing.T) {
	s := newScene(t, "Enforce")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := s.pod.Command(self, repairArg, netip.AddrPortFrom(s.ServerAddr, port).String())
	if said := p.Run(t); said != "sent" {
		t.Fatalf("the client says %q (%s)", said, p.Complaint())
	}
	e := s.await(t, func(e event.Event) bool { return e.Flaw == event.FlawMidway })
	if e.Verdict != event.VerdictDeny {
		t.Errorf("it is told as %+v", e)
	}
	if seen := s.requests(); seen != "POST /v1/request-landing" {
		t.Errorf("the server saw %q", seen)
	}
}
