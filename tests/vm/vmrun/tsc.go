package main

import "time"

// tscSample is how long the time stamp counter is measured: an error of reading the clocks of some microseconds is then
// below a thousandth.
const tscSample = 20 * time.Millisecond

// tscKHz measures the frequency of the time stamp counter, in kHz; 0: there is none. The guest is told it: one that
// measures it while the host is too busy to give it its timer's ticks takes minutes for seconds.
func tscKHz() uint64 {
	begin, ticks := tscRead()
	time.Sleep(tscSample)
	end, after := tscRead()
	return (after - ticks) * uint64(time.Millisecond) / uint64(end.Sub(begin))
}

// tscRead reads clock and counter as of one moment: of several readings the one that took the least.
func tscRead() (at time.Time, ticks uint64) {
	least := time.Hour
	for range 100 {
		before := time.Now()
		t := tscNow()
		if took := time.Since(before); took < least {
			least, at, ticks = took, before, t
		}
	}
	return at, ticks
}
