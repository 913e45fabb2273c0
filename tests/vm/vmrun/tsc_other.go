//go:build !amd64

package main

// tscNow is 0 on processors that have no time stamp counter: the guest measures what it is shown.
func tscNow() uint64 { return 0 }
