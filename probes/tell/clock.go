package tell

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockPause is how long the difference between the clocks is taken for granted, by the time in the records. Asking for both
// takes longer than reading a record.
const clockPause = 10 * time.Millisecond

// clock turns CLOCK_BOOTTIME into wall clock time. The zero clock is ready, and for one goroutine.
type clock struct {
	began time.Time // of the wall, without a monotonic reading, when CLOCK_BOOTTIME was 0: as both were at asked
	asked int64     // CLOCK_BOOTTIME, in nanoseconds; 0: never
}

// wall is the time of the wall at bootNS. A change of the wall clock counts for records that were written more than clockPause
// after the last look at it.
func (c *clock) wall(bootNS uint64) time.Time {
	at := int64(bootNS) // nanoseconds since boot fit
	if c.asked == 0 || at > c.asked+int64(clockPause) || at < 0 {
		c.ask()
	}
	return c.began.Add(time.Duration(at))
}

// ask looks at both clocks.
func (c *clock) ask() {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return // cannot fail on Linux 2.6.39 and later
	}
	c.asked = ts.Nano()
	c.began = time.Now().Round(0).Add(-time.Duration(c.asked))
}
