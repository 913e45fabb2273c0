package oracle

import (
	"fmt"
	"testing"

	"github.com/sallyport/sallyport/tests/internal/oracle"
	"github.com/sallyport/sallyport/tests/parse"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// TestHTTP2VectorsInTheKernel: each of the vectors of HTTP/2 is read as on the host, wherever it is split.
func TestHTTP2VectorsInTheKernel(t *testing.T) {
	s := oracle.NewStreams(t)
	for _, v := range parse.HTTP2Vectors(t) {
		want := fmt.Sprintf("%d requests, bad %s", v.Requests, v.Bad)
		if v.Bad == "" {
			want += "0 0 0"
		}
		for _, size := range pieces(len(v.Stream)) {
			requests, bad := s.HTTP2(t, v.Stream, size)
			if got := fmt.Sprintf("%d requests, bad %d %d %d", len(requests), bad[0], bad[1], bad[2]); got != want {
				t.Errorf("%s, in pieces of %d: %s; want %s", v.Name, size, got, want)
			}
		}
	}
}

// TestHelloVectorsInTheKernel: the same of ClientHellos, and of what libFuzzer found, which is read alike whole and in pieces.
func TestHelloVectorsInTheKernel(t *testing.T) {
	s := oracle.NewStreams(t)
	for _, v := range parse.HelloVectors() {
		for _, size := range pieces(len(v.Stream)) {
			flaw, then := s.Hello(t, v.Stream, size)
			if then != v.Then || v.Then == "" && flaw != int(v.Flaw) {
				t.Errorf("%s, in pieces of %d: flaw %d, then %q; want %d, %q", v.Name, size, flaw, then, v.Flaw, v.Then)
			}
		}
	}
	for _, input := range parse.Corpus(t, "clienthello") {
		whole := fmt.Sprint(s.Hello(t, input, most))
		for _, size := range []int{1, 7, 239} {
			if got := fmt.Sprint(s.Hello(t, input, size)); got != whole {
				t.Errorf("%x, in pieces of %d: %s; whole %s", input, size, got, whole)
			}
		}
	}
}

// TestDNSVectorsInTheKernel: the same of DNS, whose messages come whole.
func TestDNSVectorsInTheKernel(t *testing.T) {
	o := oracle.New(t, open(t, pod.NewNode(t)))
	for _, v := range parse.DNSVectors() {
		if got := o.Parse(t, v.Answer, []byte(v.Message)); got.OK != v.OK || v.OK && len(got.Addresses) != v.Addresses {
			t.Errorf("%s: read %v with %d addresses, want %v with %d", v.Name, got.OK, len(got.Addresses), v.OK, v.Addresses)
		}
	}
}
