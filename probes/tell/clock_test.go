package tell

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is CLOCK_BOOTTIME now.
func bootTime(t *testing.T) uint64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return uint64(ts.Nano())
}

// A record's time lies between those of the wall before and after it was taken.
func TestClockIsTheWalls(t *testing.T) {
	t.Parallel()
	const slack = time.Millisecond // the kernel slews one of the clocks
	var c clock
	for range 3 {
		before := time.Now()
		boot := bootTime(t)
		after := time.Now()
		if got := c.wall(boot); got.Before(before.Add(-slack)) || got.After(after.Add(slack)) {
			t.Errorf("%v is not between %v and %v", got, before, after)
		}
		time.Sleep(2 * clockPause)
	}
}

// The clocks are asked again when a record is newer than the last look by clockPause, and not for those before.
func TestClockIsAskedNowAndThen(t *testing.T) {
	t.Parallel()
	var c clock
	boot := bootTime(t)
	c.wall(boot)
	first := c.asked
	for _, older := range []uint64{1, boot / 2, boot, uint64(first) + uint64(clockPause)} {
		c.wall(older)
	}
	if c.asked != first {
		t.Error("the clocks were asked for a record that is not newer")
	}
	c.began = c.began.Add(-time.Hour) // as if somebody had set the wall clock an hour forward since
	if got := c.wall(uint64(first) + uint64(clockPause) + 1); time.Since(got) > time.Minute || c.asked == first {
		t.Errorf("%v: the change of the wall clock is not seen", got)
	}
}
