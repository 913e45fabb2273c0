package probes

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// TestHeaderNames: a line is compared with a name by words; as long a name as may be, with its colon, has room.
func TestHeaderNames(t *testing.T) {
	t.Parallel()
	line := func(text string) (words [len(bpfobj.ABIHeaderName{}.Word)]uint64) {
		raw := make([]byte, 8*len(words))
		copy(raw, text)
		for i := range words {
			words[i] = binary.LittleEndian.Uint64(raw[8*i:])
		}
		return words
	}
	for _, name := range []string{"a", "1234567", "12345678", "x-request-id", strings.Repeat("n", MaxHeaderName)} {
		n := headerName(name + ":")
		for text, want := range map[string]bool{
			name + ":": true, name + ": value": true, name + ":" + strings.Repeat("v", 80): true,
			name + "n:": false, name: false, name[:len(name)-1] + ": ": false, "x" + name + ":": false,
		} {
			same := true
			for i, word := range line(text) {
				same = same && word&n.Mask[i] == n.Word[i]
			}
			if same != want || int(n.Len) != len(name)+1 {
				t.Errorf("%q is %q: %t", text, name, same)
			}
		}
	}
}

// TestHeadersHaveANumber: another list has another number, and none has 0.
func TestHeadersHaveANumber(t *testing.T) {
	t.Parallel()
	seen := map[uint32][]string{}
	for _, names := range [][]string{nil, {"a"}, {"b"}, {"a", "b"}, {"b", "a"}} {
		k := &Kernel{cfg: Config{TellHeaders: names}}
		_, id := k.Headers()
		if other, twice := seen[id]; twice || (id == 0) != (len(names) == 0) {
			t.Errorf("%q has the number %d, as %q", names, id, other)
		}
		seen[id] = names
	}
}
