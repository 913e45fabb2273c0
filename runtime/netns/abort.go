package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Connection is a TCP connection as one of its ends sees it.
type Connection struct {
	Local, Remote netip.AddrPort
	Socket        uint64 // cookie of that end's socket: no other is meant, whatever has its addresses by now
}

// ErrElsewhere is returned for a process that is in another network namespace than the one that was meant.
var ErrElsewhere = errors.New("the process is in another network namespace")

// anySocket stands for no cookie in a request (INET_DIAG_NOCOOKIE, linux/inet_diag.h).
const anySocket = ^uint64(0)

// Abort ends a connection in the network namespace with this cookie, which the process pid is in: calls on its socket fail
// with ECONNABORTED, and the other end gets a reset (SOCK_DESTROY, Linux 4.5, CONFIG_INET_DIAG_DESTROY). An end for which
// both sides have said that they send nothing more sends no reset, so the other end is ended as well if it is in that
// namespace. A connection that has ended already is no error.
func Abort(pid uint32, netNS uint64, c Connection) error {
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return fmt.Errorf("ending a connection: %w", err)
	}
	defer func() { _ = file.Close() }() // read only
	err = within(file, func() error {
		own, err := ownCookie()
		if err != nil {
			return err
		}
		if own != netNS {
			return ErrElsewhere
		}
		// Looked up while this end keeps the addresses from another connection.
		other, found, err := otherEnd(c)
		if err != nil {
			return err
		}
		if err := destroy(c); err != nil || !found {
			return err
		}
		return destroy(other)
	})
	if err != nil && !isGone(err) {
		return fmt.Errorf("ending a connection: %w", err)
	}
	return nil
}

func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

// destroy ends the socket of one end in the calling thread's network namespace.
func destroy(c Connection) error {
	request := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	request.AddRawData(diagRequest(c))
	_, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// otherEnd returns the connection as its other end sees it, and whether that is in the calling thread's network namespace.
// A search by addresses also finds who only listens at them, which is nobody's end.
func otherEnd(c Connection) (Connection, bool, error) {
	other := Connection{Local: c.Remote, Remote: c.Local, Socket: anySocket}
	request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, 0)
	request.AddRawData(diagRequest(other))
	answers, err := request.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil && !isGone(err) {
		return Connection{}, false, err
	}
	// struct inet_diag_msg of linux/inet_diag.h: the peer's port is 0 for who listens.
	const peerPort, cookie, size = 6, 44, 72
	if len(answers) != 1 || len(answers[0]) < size || binary.BigEndian.Uint16(answers[0][peerPort:]) != other.Remote.Port() {
		return Connection{}, false, nil
	}
	low, high := binary.NativeEndian.Uint32(answers[0][cookie:]), binary.NativeEndian.Uint32(answers[0][cookie+4:])
	other.Socket = uint64(high)<<32 | uint64(low)
	return other, true, nil
}

// diagRequest is struct inet_diag_req_v2 of linux/inet_diag.h, for one TCP socket.
func diagRequest(c Connection) []byte {
	local, remote := c.Local.Addr().Unmap(), c.Remote.Addr().Unmap()
	family := byte(unix.AF_INET)
	if local.Is6() {
		family = unix.AF_INET6
	}
	const ports, source, destination, cookie, size = 8, 12, 28, 48, 56
	b := make([]byte, size)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[ports:], c.Local.Port())
	binary.BigEndian.PutUint16(b[ports+2:], c.Remote.Port())
	copy(b[source:], local.AsSlice())
	copy(b[destination:], remote.AsSlice())
	binary.NativeEndian.PutUint32(b[cookie:], uint32(c.Socket)) // its low half
	binary.NativeEndian.PutUint32(b[cookie+4:], uint32(c.Socket>>32))
	return b
}
