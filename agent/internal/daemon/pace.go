package daemon

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// How long after a change was put in force the next ones are gathered, where nobody waits for them: so that pods which
// come and go all the time cost no more than ten compilations a second, and no more than a tenth of a processor where each
// of them has rules of its own. A change after a quiet time is not held back.
const (
	gather     = 100 * time.Millisecond // at least
	gatherMost = time.Second
)

// gatherFactor makes it a tenth: what the garbage of a change costs later is a third of what its thread takes.
const gatherFactor = 12

// pauseAfter is how long changes are gathered after one that took its thread so much of a processor.
func pauseAfter(cost time.Duration) time.Duration {
	return min(max(gather, gatherFactor*cost), gatherMost)
}

// threadTime is how much of a processor the calling thread has used. That of the whole agent would let workloads that make
// events hold back policies.
func threadTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0 // never; a change would seem to cost nothing
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// catchUpInTime brings the kernel in line with what has changed, if it is time to. It returns after which pause it
// is to be called again at the latest; 0: when something happens.
func (e *engine) catchUpInTime() (pause time.Duration) {
	if !e.behind {
		return 0
	}
	if wait := e.pause - time.Since(e.caughtUp); wait > 0 && len(e.waiting) == 0 {
		return wait
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := threadTime()
	done := e.catchUp()
	e.caughtUp, e.pause = time.Now(), pauseAfter(threadTime()-used)
	if !done {
		return retryAfter
	}
	return 0
}
