package attach

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Dir sees with one call of stat whether pins came to a directory of a BPF file system, or went: that changes its
// times. The zero Dir is not usable. It is for one goroutine.
type Dir struct {
	path   string
	last   unix.Stat_t
	recent bool // it changed so shortly before the last look that a later change may have the same time
	looks  int
}

// NewDir makes one, whose first look says that something changed.
func NewDir(path string) Dir { return Dir{path: path, recent: true} }

const (
	// timeGrain is more than the clock of file systems lags behind.
	timeGrain = 100 * time.Millisecond
	// surely is after how many looks something counts as changed whatever the times say, which a change of the clock can
	// make the same again.
	surely = 32
)

// Changed reports whether something may have come or gone since the last call. What cannot be looked at has changed.
func (d *Dir) Changed() bool {
	var now unix.Stat_t
	err := unix.Stat(d.path, &now)
	changed := err != nil || d.recent || d.looks%surely == 0 ||
		now.Ino != d.last.Ino || now.Dev != d.last.Dev || now.Ctim != d.last.Ctim
	d.last, d.looks = now, d.looks+1
	d.recent = err != nil || time.Since(time.Unix(now.Ctim.Unix())).Abs() < timeGrain
	return changed
}

// Seal is what a pin is recognised by.
type Seal struct{ ino, dev uint64 }

// SealOf looks at a pin.
func SealOf(path string) (Seal, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Seal{}, fmt.Errorf("looking at pin %s: %w", path, err)
	}
	return Seal{st.Ino, st.Dev}, nil
}

// Pinnable is a handle of something that can be pinned.
type Pinnable interface {
	Pin(path string) error
	Unpin() error
}

// Restore makes the pin at path the handle's, if the seal says that it is not. It reports whether it was not. What
// is there instead, if it is no full directory, is removed.
func (s *Seal) Restore(path string, handle Pinnable) (broken bool, err error) {
	now, err := SealOf(path)
	if err == nil && now == *s {
		return false, nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return true, fmt.Errorf("removing what is in the place of pin %s: %w", path, err)
	}
	if err := handle.Unpin(); err != nil { // so that it does not count as pinned
		return true, fmt.Errorf("pinning %s again: %w", path, err)
	}
	if err := handle.Pin(path); err != nil {
		return true, fmt.Errorf("pinning %s again: %w", path, err)
	}
	*s, err = SealOf(path)
	return true, err
}
