package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// The wire from the guest to the host is the second serial port, one direction only. It begins with wireMagic (before
// it, firmware may have written anything); then come frames: one byte kind, four bytes length, little endian, payload.
const (
	frameStdout = 'O' // payload: bytes the program wrote
	frameStderr = 'E'
	frameKernel = 'K' // payload: one line of the kernel's log, level 0 to 4 (warning)
	frameFault  = 'F' // payload: a fault that the guest found by other means than a log line
	frameNote   = 'N' // payload: a remark of the guest's init, for -v
	frameExit   = 'X' // payload: exit code, 4 bytes little endian; the last frame
)

const (
	wireMagic  = "\x00VMRUN\x02"
	frameLimit = 1 << 16 // larger payloads are split by the writer, refused by the reader
	headerSize = 5
)

// frameWriter sends frames; its methods may be called concurrently.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// begin sends the mark from which on the host listens.
func (f *frameWriter) begin() error {
	_, err := io.WriteString(f.w, wireMagic)
	return err
}

func (f *frameWriter) send(kind byte, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for first := true; first || len(payload) > 0; first = false {
		n := min(len(payload), frameLimit)
		frame := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(n))
		if _, err := f.w.Write(append(frame, payload[:n]...)); err != nil {
			return fmt.Errorf("writing to the host: %w", err)
		}
		payload = payload[n:]
	}
	return nil
}

func (f *frameWriter) exit(code int) error {
	return f.send(frameExit, binary.LittleEndian.AppendUint32(nil, uint32(int32(code))))
}

// stream is an io.Writer that sends what it gets as frames of one kind.
type stream struct {
	to   *frameWriter
	kind byte
}

func (s stream) Write(p []byte) (int, error) {
	if err := s.to.send(s.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// frameReader is the host's end.
type frameReader struct{ r *bufio.Reader }

// sync skips what comes before wireMagic.
func (f frameReader) sync() error {
	window := make([]byte, 0, len(wireMagic))
	for !bytes.Equal(window, []byte(wireMagic)) {
		b, err := f.r.ReadByte()
		if err != nil {
			return fmt.Errorf("waiting for the guest's init: %w", err)
		}
		if len(window) == cap(window) {
			window = append(window[:0], window[1:]...)
		}
		window = append(window, b)
	}
	return nil
}

// next returns one frame. io.EOF between two frames means that the guest is gone.
func (f frameReader) next() (kind byte, payload []byte, err error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(f.r, header[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, nil, io.EOF
		}
		return 0, nil, fmt.Errorf("reading a frame header: %w", err)
	}
	n := binary.LittleEndian.Uint32(header[1:])
	if n > frameLimit {
		return 0, nil, fmt.Errorf("reading a frame: %d bytes are more than the limit %d", n, frameLimit)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(f.r, payload); err != nil {
		return 0, nil, fmt.Errorf("reading a frame's payload: %w", err)
	}
	return header[0], payload, nil
}

// exitCode decodes the payload of a frameExit.
func exitCode(payload []byte) (int, error) {
	if len(payload) != 4 {
		return 0, fmt.Errorf("reading the exit code: %d bytes, want 4", len(payload))
	}
	return int(int32(binary.LittleEndian.Uint32(payload))), nil
}
