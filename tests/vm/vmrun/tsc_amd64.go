package main

// tscNow reads this processor's time stamp counter, which is what an emulated processor shows as its own.
func tscNow() uint64
