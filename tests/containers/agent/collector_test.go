package agent

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"
)

// collector is where a collector of syslog listens in the agent's network namespace.
const collector = "127.0.0.1:6514"

// What the collector does with its connections.
const (
	reading    = iota
	hanging    // reads nothing
	dawdling   // reads some KiB a second
	resetting  // reads once, perhaps a part of a message, and resets
	chattering // answers what it reads with noise
)

func collectorMood(mood int32) func(*testing.T, *faulty) {
	return func(_ *testing.T, f *faulty) { f.mood.Store(mood) }
}

// collect is a collector with little room for what it has not read.
func (f *faulty) collect(t *testing.T) {
	t.Helper()
	var listener net.Listener
	f.net.Node.Do(t, func() (err error) {
		listener, err = net.Listen("tcp", collector)
		return err
	})
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10) // a larger one only fills later
			go f.read(conn.(*net.TCPConn))
		}
	}()
}

// read counts the denials that come, and does otherwise as the mood is.
func (f *faulty) read(conn *net.TCPConn) {
	defer func() { _ = conn.Close() }() // all was read, or it is a fault
	const denial = `kind="connect"`
	buffer, kept, noise := make([]byte, 16<<10), "", bytes.Repeat([]byte{0xff, 0, '\n', '<'}, 256)
	for {
		room := buffer
		switch f.mood.Load() {
		case hanging:
			time.Sleep(10 * time.Millisecond)
			continue
		case dawdling:
			time.Sleep(100 * time.Millisecond)
			room = buffer[:512]
		case resetting:
			_, _ = conn.Read(buffer[:100]) // so that it is in the midst of one
			_ = conn.SetLinger(0)
			return
		case chattering:
			_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)) // nobody need read it
			_, _ = conn.Write(noise)
		}
		n, err := conn.Read(room)
		kept += string(room[:n])
		f.received.Add(int64(strings.Count(kept, denial)))
		kept = kept[max(strings.LastIndex(kept, denial)+1, len(kept)-len(denial)+1, 0):]
		if err != nil {
			return
		}
	}
}
