package tls

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/io_uring.h: offsets in a request, and in the two rings as io_uring_setup gives them.
const (
	uringCommand    = 46 // IORING_OP_URING_CMD
	uringSetsockopt = 3  // SOCKET_URING_OP_SETSOCKOPT, since Linux 6.7
	uringWait       = 1  // IORING_ENTER_GETEVENTS
	uringRequests   = 0x10000000
	uringRequest    = 64 // bytes of a request
	uringParams     = 120
	paramsTail      = 44 // sq_off.tail
	paramsSlots     = 64 // sq_off.array
	paramsResults   = 100
	resultValue     = 8
)

// setULPByRing asks for TLS as a socket's upper layer protocol without a call of setsockopt.
func setULPByRing(fd int) error {
	var params [uringParams]byte
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(ring))
	requests, err := unix.Mmap(int(ring), uringRequests, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	rings, err := unix.Mmap(int(ring), 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	name := append([]byte("tls"), 0)
	place := func(at int) int { return int(binary.NativeEndian.Uint32(params[at:])) }
	request := requests[:uringRequest]
	request[0] = uringCommand
	binary.NativeEndian.PutUint32(request[4:], uint32(fd))
	binary.NativeEndian.PutUint32(request[8:], uringSetsockopt)
	binary.NativeEndian.PutUint32(request[16:], unix.IPPROTO_TCP)
	binary.NativeEndian.PutUint32(request[20:], unix.TCP_ULP)
	binary.NativeEndian.PutUint32(request[44:], uint32(len(name)-1))
	binary.NativeEndian.PutUint64(request[48:], uint64(uintptr(unsafe.Pointer(&name[0]))))
	binary.NativeEndian.PutUint32(rings[place(paramsSlots):], 0)
	binary.NativeEndian.PutUint32(rings[place(paramsTail):], 1)
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, ring, 1, 1, uringWait, 0, 0); errno != 0 {
		return errno
	}
	if result := int32(binary.NativeEndian.Uint32(rings[place(paramsResults)+resultValue:])); result < 0 {
		return unix.Errno(-result)
	}
	return nil
}
