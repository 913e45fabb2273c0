// Package uring makes one request of io_uring by its bare system calls, as programs do that go past those of sockets.
package uring

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The operations, as of enum io_uring_op in linux/io_uring.h.
const (
	OpSendmsg = 9
	OpWrite   = 23
	OpSend    = 26
	OpSplice  = 30
	OpCommand = 46
	OpSendZC  = 47
)

// Async is the flag of a request that a worker thread of the kernel is to do (IOSQE_ASYNC).
const Async = 1 << 4

// Current says in place of an offset that there is none.
const Current = ^uint64(0)

// Request is a struct io_uring_sqe. Its names are those of its most common use.
type Request struct {
	Op       uint8
	Flags    uint8
	_        uint16
	FD       int32
	Off      uint64
	Addr     uint64
	Len      uint32
	OpFlags  uint32
	UserData uint64
	_        uint32
	FDIn     int32 // of splice; of a socket's command: the length of its option
	Addr3    uint64
	_        uint64
}

// Of linux/io_uring.h: sizes, and offsets in the two rings as io_uring_setup gives them.
const (
	wait          = 1 // IORING_ENTER_GETEVENTS
	requestsAt    = 0x10000000
	params        = 120
	paramsTail    = 44 // sq_off.tail
	paramsSlots   = 64 // sq_off.array
	paramsResults = 100
	resultValue   = 8
)

// Do makes the request on a ring of its own and returns its first result, or the error that it is. What the request points to
// has to live as long.
func Do(r *Request) (result int, err error) {
	var p [params]byte
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return 0, errno
	}
	ring := int(fd)
	defer func() { err = errors.Join(err, unix.Close(ring)) }()
	requests, err := shared(ring, requestsAt)
	if err != nil {
		return 0, err
	}
	rings, err := shared(ring, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Munmap(requests), unix.Munmap(rings)) }()
	place := func(at int) int { return int(binary.NativeEndian.Uint32(p[at:])) }
	copy(requests, unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r)))
	binary.NativeEndian.PutUint32(rings[place(paramsSlots):], 0)
	binary.NativeEndian.PutUint32(rings[place(paramsTail):], 1)
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, wait, 0, 0); errno != 0 {
		return 0, errno
	}
	result = int(int32(binary.NativeEndian.Uint32(rings[place(paramsResults)+resultValue:])))
	if result < 0 {
		return 0, unix.Errno(-result)
	}
	return result, nil
}

// shared maps a page of a ring.
func shared(ring int, offset int64) ([]byte, error) {
	return unix.Mmap(ring, offset, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}
