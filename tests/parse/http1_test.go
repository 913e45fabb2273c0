package parse

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestVectors reads each of them, at every place where it can be split, and holds it against net/http.
func TestVectors(t *testing.T) {
	p := StartHTTP1(t)
	for _, v := range Vectors() {
		t.Run(v.Name, func(t *testing.T) {
			if _, flaw := CheckHTTP1(t, p, []byte(v.Stream)); flaw != v.Flaw {
				t.Errorf("flaw %d, want %d", flaw, v.Flaw)
			}
		})
	}
}

// TestWhatIsRead: the text of the parts, and where the next request begins.
func TestWhatIsRead(t *testing.T) {
	p := StartHTTP1(t)
	stream := head("PUT /%76%31/%3f%C3%a4;a?q HTTP/1.1", "HOST:  Api.Example:8080 ", "X-A:  b c\t", "Content-Length: 2", "x-"+strings.Repeat("n", 300)+": v") + "ab" +
		head("GET http://h HTTP/1.0", "Host: H", "Transfer-Encodings: x")
	requests, inside, flaw := p.Read(t, []byte(stream))
	if flaw != Sound || inside != "more" || len(requests) != 2 {
		t.Fatalf("%+v, inside %q, flaw %d", requests, inside, flaw)
	}
	first, second := requests[0], requests[1]
	if first.Method != http.MethodPut || first.Path != "/v1/%3F%C3%A4;a" || first.Host != "api.example:8080" || first.Body != 2 || first.Query != "q" ||
		!slices.Equal(first.Lines, []string{"x-a:b c\t", "content-length:2", "x-" + strings.Repeat("n", 300) + ":v"}) {
		t.Errorf("the first is %+v", first)
	}
	if second.Path != "/" || second.Host != "h" || !slices.Equal(second.Lines, []string{"transfer-encodings:x"}) {
		t.Errorf("the second is %+v", second)
	}
}

// TestMutations changes good connections a little, which shows what no list of vectors has.
func TestMutations(t *testing.T) {
	p := StartHTTP1(t)
	rounds := 20000
	if testing.Short() {
		rounds = 2000
	}
	r := rand.New(rand.NewPCG(5, 1))
	list := Vectors()
	seen := map[string]int{}
	for range rounds {
		stream := []byte(list[r.IntN(20)].Stream)
		for range r.IntN(3) {
			at := r.IntN(len(stream))
			switch r.IntN(4) {
			case 0:
				stream[at] = "\r\n \t:;/%.0aA\x00\x80"[r.IntN(14)]
			case 1:
				stream = slices.Delete(stream, at, min(len(stream), at+1+r.IntN(3)))
			case 2:
				stream = slices.Insert(stream, at, "\r\n :;/%.0a,"[r.IntN(11)])
			default:
				from := r.IntN(len(stream))
				stream = append(stream[:at:at], append(bytes.Clone(stream[from:min(len(stream), from+20)]), stream[at:]...)...)
			}
			if len(stream) == 0 {
				stream = []byte("x")
			}
		}
		outcome, flaw := CheckHTTP1(t, p, stream)
		if flaw != Sound {
			outcome = "flawed"
		}
		seen[outcome]++
	}
	t.Log(seen)
	for _, outcome := range []string{"flawed", "1 requests", "2 requests"} {
		if seen[outcome] < rounds/50 {
			t.Errorf("only %d connections of %q: the comparison proves little about it", seen[outcome], outcome)
		}
	}
}

// FuzzHTTP1 looks for a connection that the parser reads otherwise than net/http, or differently when it is split.
func FuzzHTTP1(f *testing.F) {
	for _, v := range Vectors() {
		if len(v.Stream) < 1024 {
			f.Add([]byte(v.Stream))
		}
	}
	p := StartHTTP1(f)
	f.Fuzz(func(t *testing.T, stream []byte) {
		if len(stream) > 1<<12 {
			return
		}
		CheckHTTP1(t, p, stream)
	})
}
