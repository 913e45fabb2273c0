package read

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil/uring"
)

// rings are the ways to send without a system call of sockets or files. Of an operation with a flag the kernel's worker does it.
func rings() []way {
	return []way{
		{"io_uring SEND", ringSend(uring.OpSend, 0), false},
		{"io_uring SEND in a worker", ringSend(uring.OpSend, uring.Async), false},
		{"io_uring WRITE", ringSend(uring.OpWrite, 0), false},
		{"io_uring SENDMSG", ringSendmsg, false},
		{"io_uring SEND_ZC", ringSend(uring.OpSendZC, 0), true},
		{"io_uring SPLICE", ringSplice, true},
	}
}

// ringSend is an operation on bytes.
func ringSend(op, flags uint8) func(fd int, said []byte) error {
	return func(fd int, said []byte) error {
		r := &uring.Request{Op: op, Flags: flags, FD: int32(fd), Addr: address(&said[0]), Len: uint32(len(said))}
		err := whole(uring.Do(r))(said)
		runtime.KeepAlive(said)
		return err
	}
}

func ringSendmsg(fd int, said []byte) error {
	parts := []unix.Iovec{{Base: &said[0], Len: 3}, {Base: &said[3], Len: uint64(len(said) - 3)}}
	message := &unix.Msghdr{Iov: &parts[0], Iovlen: uint64(len(parts))}
	err := whole(uring.Do(&uring.Request{Op: uring.OpSendmsg, FD: int32(fd), Addr: address(message), Len: 1}))(said)
	runtime.KeepAlive(message)
	return err
}

func ringSplice(fd int, said []byte) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	if err := whole(unix.Write(pipe[1], said))(said); err != nil {
		return err
	}
	return whole(uring.Do(&uring.Request{
		Op: uring.OpSplice, FD: int32(fd), Off: uring.Current, Addr: uring.Current, Len: uint32(len(said)), FDIn: int32(pipe[0]),
	}))(said)
}

// address is where something is, for the kernel.
func address[T any](at *T) uint64 { return uint64(uintptr(unsafe.Pointer(at))) }
