package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// ErrBusy is wrapped by Listen when another agent has the socket.
var ErrBusy = errors.New("another agent has it")

const (
	socketMode fs.FileMode = 0o600
	dirMode    fs.FileMode = 0o700
)

// listen takes the socket at path. Who holds the lock of the file beside it owns the path, so that
// two agents that start at once cannot both take a dead one's socket for their own.
func listen(path string) (net.Listener, *os.File, error) {
	lock, err := takeLock(path)
	if err != nil {
		return nil, nil, err
	}
	listener, err := listenLocked(path)
	if err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	return listener, lock, nil
}

// Lock keeps agents from the socket at path until unlock is called. It fails with ErrBusy while one has
// it.
func Lock(path string) (unlock func() error, err error) {
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	return lock.Close, nil
}

func takeLock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, fmt.Errorf("making the folder of the socket: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, socketMode)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the socket: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrBusy
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("taking socket %s: %w", path, err), lock.Close())
	}
	return lock, nil
}

func listenLocked(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	// Until here the mode was that of the umask. Nobody gains by it: onlyUser asks the kernel who
	// each caller is (fails closed).
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("setting the mode of the socket: %w", err), listener.Close())
	}
	return listener, nil
}

// removeStale removes a socket that is there, and refuses to remove anything else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the socket's path: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("taking socket %s: there is a file that is no socket; move it away or change api.socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the socket of a dead agent: %w", err)
	}
	return nil
}

// onlyUser is the transport security of the server: nothing is encrypted, and the kernel says who
// the caller is. Every error closes the connection (fails closed).
type onlyUser struct {
	uid uint32
	log logrus.FieldLogger
}

// caller is what the kernel says about the other end of a connection.
type caller struct {
	credentials.CommonAuthInfo
}

// AuthType names the mechanism.
func (caller) AuthType() string { return "unix-peer-credentials" }

// ServerHandshake asks the kernel who called.
func (u onlyUser) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	peer, err := peerOf(conn)
	if err != nil {
		return nil, nil, fmt.Errorf("asking who calls the API: %w", err)
	}
	if peer.Uid != u.uid {
		u.log.WithFields(logrus.Fields{"uid": peer.Uid, "pid": peer.Pid}).Warn("refused a caller of the API")
		return nil, nil, fmt.Errorf("refusing user %d: %w", peer.Uid, fs.ErrPermission)
	}
	return conn, caller{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func peerOf(conn net.Conn) (*unix.Ucred, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("connection is a %T", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		peer, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return peer, sockErr
}

// ClientHandshake is not for clients, which use no transport security.
func (onlyUser) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("opening a client connection: these credentials are a server's")
}

// Info describes the mechanism.
func (onlyUser) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer-credentials"}
}

// Clone copies the credentials.
func (u onlyUser) Clone() credentials.TransportCredentials { return u }

// OverrideServerName has no meaning here; the interface demands it.
func (onlyUser) OverrideServerName(string) error { return nil }

// dialTimeout bounds how long a client waits for a socket whose owner accepts nothing.
const dialTimeout = 5 * time.Second
