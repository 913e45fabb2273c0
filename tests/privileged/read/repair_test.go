package read

import (
	"encoding/binary"
	"encoding/hex"
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

// repair says what is allowed to addr, takes the connection back without the server's knowledge, and says something evil
// of the same length in its place.
func repair(addr netip.AddrPort, said, evil []byte) error {
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
	if _, err := unix.Write(fd, said); err != nil {
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
	_, err = unix.Write(fd, evil)
	return err
}

// repaired does that with what is said in hexadecimal, and says when it is done.
func repaired(addr, said, evil string) error {
	to, err := netip.ParseAddrPort(addr)
	good, err1 := hex.DecodeString(said)
	bad, err2 := hex.DecodeString(evil)
	if err = errors.Join(err, err1, err2); err == nil {
		err = repair(to, good, bad)
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
	s.repair(t, port, "POST /v1/request-landing HTTP/1.1\r\nHost: a\r\n\r\n", "PUT /v1/exhaust-port HTTP/1.1\r\nHost: abcdef\r\n\r\n")
	if seen := s.requests(); seen != "POST /v1/request-landing" {
		t.Errorf("the server saw %q", seen)
	}
}

// TestRepairedSocketOfAName: nor does the name that was asked for on it.
func TestRepairedSocketOfAName(t *testing.T) {
	s := newScene(t, "Enforce")
	s.inForce(t, fmt.Sprintf(served, "Enforce", ""))
	s.serveBack(t, backPort)
	const data = "\x17\x03\x03\x00\x04more" // behind which no other ClientHello comes
	s.repair(t, backPort, helloFor(t, "api.example")+data, helloFor(t, "apj.example")+data)
}

// repair has a client in the pod repair its socket, and expects that what it says then is denied.
func (s *scene) repair(t *testing.T, port uint16, said, evil string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(s.ServerAddr, port).String()
	p := s.pod.Command(self, repairArg, to, hex.EncodeToString([]byte(said)), hex.EncodeToString([]byte(evil)))
	if done := p.Run(t); done != "sent" {
		t.Fatalf("the client says %q (%s)", done, p.Complaint())
	}
	e := s.await(t, func(e event.Event) bool { return e.Flaw == event.FlawMidway })
	if e.Verdict != event.VerdictDeny {
		t.Errorf("it is told as %+v", e)
	}
}
