package tls

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ktlsArg ADDRESS makes the test binary a client without a TLS library, which gives the kernel keys by itself. It reads
// commands, a line each, and answers each with a line, "ok" or an error:
//
//	connect            opens a connection, which the other commands are about from then on
//	ulp                asks for TLS as its upper layer protocol
//	ulp-by-ring        the same through io_uring
//	send SUITE         gives the kernel keys for what is sent
//	receive SUITE      the same for what is received
//	port               answers with its local port
//	write CONN WAY     sends a request on connection CONN, the first is 0, in one of several ways
const ktlsArg = "sallyport-ktls"

// Numbers of linux/tls.h.
const (
	solTLS              = 282
	tlsTX               = 1
	tlsRX               = 2
	tlsSetRecordType    = 1
	recordHandshake     = 22
	tls12               = 0x0303
	tls13               = 0x0304
	aesGCM128           = 51
	aesGCM256           = 52
	chaCha20Poly1305    = 54
	maxRecord           = 16384
	bytesOfRecordNumber = 8
)

// suite is a version and a cipher, and how long what follows them is: IV, key, salt.
type suite struct {
	name            string
	version, cipher uint16
	lengths         [3]int
}

func suites() []suite {
	return []suite{
		{"1.2/AES-GCM-128", tls12, aesGCM128, [3]int{8, 16, 4}},
		{"1.3/AES-GCM-128", tls13, aesGCM128, [3]int{8, 16, 4}},
		{"1.2/AES-GCM-256", tls12, aesGCM256, [3]int{8, 32, 4}},
		{"1.3/AES-GCM-256", tls13, aesGCM256, [3]int{8, 32, 4}},
		{"1.2/ChaCha20-Poly1305", tls12, chaCha20Poly1305, [3]int{12, 32, 0}},
		{"1.3/ChaCha20-Poly1305", tls13, chaCha20Poly1305, [3]int{12, 32, 0}},
	}
}

// Secrets, by the place in struct tls_crypto_info that they fill: IV, key, salt. Told by their first four bytes.
func secrets() [3]byte { return [3]byte{0xb6, 0xc9, 0xd4} }

// secret is what n bytes of a secret are: no two neighbours alike, and nothing that anybody else has in memory.
func secret(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first ^ byte(i*59)
	}
	return b
}

// info is the struct tls_crypto_info of a suite and what follows in it.
func (s suite) info() string {
	b := binary.LittleEndian.AppendUint16(nil, s.version)
	b = binary.LittleEndian.AppendUint16(b, s.cipher)
	for i, first := range secrets() {
		b = append(b, secret(first, s.lengths[i])...)
	}
	return string(append(b, make([]byte, bytesOfRecordNumber)...))
}

// ktlsClient has its connections.
type ktlsClient struct {
	server netip.AddrPort
	conns  []int
}

// ktls reads commands until there are no more.
func ktls(address string) error {
	server, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	c := ktlsClient{server: server}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		said, err := c.do(strings.Fields(in.Text()))
		if err != nil {
			said = err.Error()
		}
		fmt.Println(said)
	}
	return nil
}

func (c *ktlsClient) do(command []string) (said string, err error) {
	switch command[0] {
	case "connect":
		err = c.connect()
	case "ulp":
		err = unix.SetsockoptString(c.last(), unix.IPPROTO_TCP, unix.TCP_ULP, "tls")
	case "ulp-by-ring":
		err = setULPByRing(c.last())
	case "send":
		err = setKeys(c.last(), tlsTX, command[1])
	case "receive":
		err = setKeys(c.last(), tlsRX, command[1])
	case "port":
		var at unix.Sockaddr
		if at, err = unix.Getsockname(c.last()); err == nil {
			return fmt.Sprint(at.(*unix.SockaddrInet4).Port), nil
		}
	case "write":
		var i int
		if _, err = fmt.Sscan(command[1], &i); err == nil {
			err = write(c.conns[i], command[2])
		}
	}
	return "ok", err
}

func (c *ktlsClient) last() int { return c.conns[len(c.conns)-1] }

func (c *ktlsClient) connect() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.conns = append(c.conns, fd)
	return unix.Connect(fd, &unix.SockaddrInet4{Port: int(c.server.Port()), Addr: c.server.Addr().As4()})
}

func setKeys(fd, option int, name string) error {
	all := suites()
	i := slices.IndexFunc(all, func(s suite) bool { return s.name == name })
	return unix.SetsockoptString(fd, solTLS, option, all[i].info())
}

// ways are those in which a request gets into a connection that the kernel encrypts.
func ways() []string {
	return []string{"write", "writev", "more", "control", "records", "sendfile", "splice", "flips"}
}

// write sends a request in one of the ways.
func write(fd int, way string) error {
	said := []byte(request("GET", "/allowed/ktls"))
	half := len(said) / 2
	switch way {
	case "writev":
		_, err := unix.Writev(fd, [][]byte{said[:half], said[half:]})
		return err
	case "more":
		if err := unix.Sendto(fd, said[:half], unix.MSG_MORE, nil); err != nil {
			return err
		}
		return unix.Sendto(fd, said[half:], 0, nil)
	case "control":
		return unix.Sendmsg(fd, said, recordType(recordHandshake), nil, 0)
	case "records":
		_, err := unix.Write(fd, append(said, bytes.Repeat([]byte{'x'}, 2*maxRecord)...))
		return err
	case "sendfile":
		return sendFile(fd, said)
	case "splice":
		return spliced(fd, said)
	case "flips":
		return flipped(fd, said)
	default:
		_, err := unix.Write(fd, said)
		return err
	}
}

// flips is how often a request is sent while another thread changes it.
const flips = 10_000

// flipped sends it without waiting, so that what is not taken any more is no reason to stop.
func flipped(fd int, said []byte) error {
	var ended atomic.Bool
	defer ended.Store(true)
	method := (*uint32)(unsafe.Pointer(&said[0]))
	go func() {
		for !ended.Load() {
			atomic.StoreUint32(method, binary.NativeEndian.Uint32([]byte("PUT ")))
			atomic.StoreUint32(method, binary.NativeEndian.Uint32([]byte("GET ")))
		}
	}()
	for range flips {
		if err := unix.Sendto(fd, said, unix.MSG_DONTWAIT, nil); err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	return nil
}

// recordType is the control message that makes what is sent a record of another type.
func recordType(kind byte) []byte {
	b := make([]byte, unix.CmsgSpace(1))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(1)))
	binary.NativeEndian.PutUint32(b[8:], solTLS)
	binary.NativeEndian.PutUint32(b[12:], tlsSetRecordType)
	b[unix.CmsgLen(0)] = kind
	return b
}

func sendFile(fd int, said []byte) error {
	file, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.Write(file, said); err != nil {
		return err
	}
	var from int64
	_, err = unix.Sendfile(fd, file, &from, len(said))
	return err
}

func spliced(fd int, said []byte) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	if _, err := unix.Write(pipe[1], said); err != nil {
		return err
	}
	_, err := unix.Splice(pipe[0], nil, fd, nil, len(said), 0)
	return err
}
