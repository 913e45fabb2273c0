// Package jsonl is the sink that writes records as JSON lines, to a file that it rotates or to a
// stream such as standard output. It owns the file and its mode; the object of a line is
// alert.Fields.AppendJSON.
//
// It imports alert and no other package of this module.
package jsonl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/sallyport/sallyport/agent/internal/alert"
)

// Config says where the lines go and how much is kept.
type Config struct {
	Path       string    // file; empty means Stream
	Stream     io.Writer // where lines go without a Path, for example os.Stdout; not closed
	MaxSizeMB  int       // size in MiB at which the file is rotated; default 100
	MaxBackups int       // rotated files that are kept; 0 keeps all that are young enough
	MaxAgeDays int       // days a rotated file is kept; 0 means for ever
}

// Sink writes JSON lines. It is an alert.Sink.
type Sink struct {
	name   string
	out    io.Writer
	close  func() error
	fields alert.Fields
	limit  int // bytes of the longest line that can be written; 0: no limit
	buf    []byte
	torn   bool // the last write stopped inside a line
}

// Alerts name programs, arguments and peers: root only.
const (
	fileMode fs.FileMode = 0o600
	dirMode  fs.FileMode = 0o700
)

const defaultMaxSizeMB = 100

// New opens the sink. A file is made with mode 0600 and its folder with 0700; an existing file is
// set to 0600. Anything but a regular file at Path is refused, so that a link cannot lead root's writes elsewhere.
func New(cfg Config) (*Sink, error) {
	if cfg.Path == "" {
		if cfg.Stream == nil {
			return nil, errors.New("opening the JSON lines sink: neither a path nor a stream")
		}
		return &Sink{name: "jsonl", out: cfg.Stream, close: func() error { return nil }, fields: alert.NewFields()}, nil
	}
	if cfg.MaxSizeMB < 0 || cfg.MaxBackups < 0 || cfg.MaxAgeDays < 0 {
		return nil, fmt.Errorf("opening %s: negative limits", cfg.Path)
	}
	if cfg.MaxSizeMB == 0 {
		cfg.MaxSizeMB = defaultMaxSizeMB
	}
	torn, err := prepare(cfg.Path)
	if err != nil {
		return nil, err
	}
	file := &lumberjack.Logger{
		Filename:   cfg.Path,
		MaxSize:    cfg.MaxSizeMB,
		MaxBackups: cfg.MaxBackups,
		MaxAge:     cfg.MaxAgeDays,
	}
	return &Sink{
		name: "jsonl", out: file, close: file.Close, fields: alert.NewFields(),
		limit: cfg.MaxSizeMB << 20, torn: torn,
	}, nil
}

// prepare makes sure that path is a regular file of the right mode, or makes it. torn tells that
// its last line has no end, as after a crash.
func prepare(path string) (torn bool, err error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return false, fmt.Errorf("opening %s: %s is no regular file", path, info.Mode().Type())
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("opening %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return false, fmt.Errorf("opening %s: %w", path, err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return false, fmt.Errorf("opening %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := file.Chmod(fileMode); err != nil {
		return false, fmt.Errorf("setting the mode of %s: %w", path, err)
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return false, fmt.Errorf("reading the end of %s: %w", path, err)
	}
	if size == 0 {
		return false, nil
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, size-1); err != nil {
		return false, fmt.Errorf("reading the end of %s: %w", path, err)
	}
	return last[0] != '\n', nil
}

// Name is "jsonl".
func (s *Sink) Name() string { return s.name }

// Send writes one line. After a write that stopped half way (a full disk), the next one first ends
// the broken line, so that one bad line does not spoil its neighbour.
func (s *Sink) Send(_ context.Context, r *alert.Record) error {
	s.buf = s.buf[:0]
	if s.torn {
		s.buf = append(s.buf, '\n')
	}
	s.buf = s.fields.AppendJSON(s.buf, r)
	s.buf = append(s.buf, '\n')
	if s.limit > 0 && len(s.buf) > s.limit {
		return fmt.Errorf("writing a JSON line of %d bytes into files of %d: %w", len(s.buf), s.limit, alert.ErrRejected)
	}
	n, err := s.out.Write(s.buf)
	if err != nil {
		s.torn = s.torn || n > 0
		return fmt.Errorf("writing a JSON line: %w", err)
	}
	s.torn = false
	return nil
}

// Close closes the file; a stream stays open.
func (s *Sink) Close() error {
	if err := s.close(); err != nil {
		return fmt.Errorf("closing the JSON lines sink: %w", err)
	}
	return nil
}
