package tls

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil/uring"
)

// uringSetsockopt is SOCKET_URING_OP_SETSOCKOPT, since Linux 6.7.
const uringSetsockopt = 3

// setULPByRing asks for TLS as a socket's upper layer protocol without a call of setsockopt.
func setULPByRing(fd int) error {
	name := append([]byte("tls"), 0)
	_, err := uring.Do(&uring.Request{
		Op: uring.OpCommand, FD: int32(fd), Off: uringSetsockopt, Addr: unix.IPPROTO_TCP | unix.TCP_ULP<<32,
		FDIn: int32(len(name) - 1), Addr3: uint64(uintptr(unsafe.Pointer(&name[0]))),
	})
	runtime.KeepAlive(name)
	return err
}
