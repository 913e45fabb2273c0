package oracle

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/parse"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// most is what BPF_PROG_RUN takes of a message.
const most = 3500

// TestKernelReadsDNSAsTheLibrary: the parser as the kernel runs it, on messages of a library and on ones near them.
func TestKernelReadsDNSAsTheLibrary(t *testing.T) {
	o := oracle.New(t, open(t, pod.NewNode(t)))
	s := parse.NewSender(5)
	rounds := 5000
	if testutil.InVM() {
		rounds = 300
	}
	good, bad, addresses := 0, 0, 0
	for i := range rounds {
		answer := i%4 != 0
		message := s.Query()
		if answer {
			message = s.Answer()
		}
		if i%2 == 0 {
			message = s.Mutate(message)
		}
		if len(message) == 0 || len(message) > most {
			continue
		}
		want, aliases, wantOK := parse.Reference(answer, message)
		got := o.Parse(t, answer, message)
		if got.OK != (wantOK && parse.Strict(message) == "") {
			t.Fatalf("the kernel takes it: %v; the library: %v, and strictly: %q: %x", got.OK, wantOK, parse.Strict(message), message)
		}
		if !got.OK {
			bad++
			continue
		}
		good++
		if got.Name() != want.Name || got.Message.Id != want.ID || got.Message.Flags != want.Flags || got.Message.Type != want.Type {
			t.Fatalf("%x: %q %+v, want %+v", message, got.Name(), got.Message, want)
		}
		if !answer {
			continue
		}
		addresses += len(got.Addresses)
		if !slices.EqualFunc(got.Addresses, want.Addresses, func(a netip.Addr, b parse.Address) bool { return a == b.Addr }) {
			t.Fatalf("%x: %v, want %v", message, got.Addresses, want.Addresses)
		}
		for j, ttl := range got.TTLs {
			if ttl != want.Addresses[j].TTL && !parse.Twice(aliases) {
				t.Fatalf("%x: %v for %d s, want %+v", message, got.Addresses[j], ttl, want.Addresses[j])
			}
		}
	}
	t.Logf("%d read, %d refused, %d addresses", good, bad, addresses)
	if good < rounds/4 || bad < rounds/20 || addresses < rounds/4 {
		t.Error("the messages are too much alike")
	}
	for _, n := range []int{0, 1, 200} {
		if got := o.Parse(t, true, parse.Many(n)); !got.OK || len(got.Addresses) != n {
			t.Errorf("of %d addresses %d are read", n, len(got.Addresses))
		}
	}
}
