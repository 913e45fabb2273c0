package parse

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// statusOf is what net/http reads of a status line that ends: the parser says no more of it than this.
func statusOf(line string) string {
	if !strings.HasPrefix(line, "HTTP/1.0 ") && !strings.HasPrefix(line, "HTTP/1.1 ") {
		return "bad"
	}
	answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(line+"\r\n\r\n")), nil)
	switch {
	case err != nil, answer.StatusCode < 100, answer.StatusCode > 599:
		return "bad"
	case answer.StatusCode < 200 && answer.StatusCode != http.StatusSwitchingProtocols:
		return fmt.Sprint("interim ", answer.StatusCode)
	}
	return fmt.Sprint("done ", answer.StatusCode)
}

// TestStatusAsNetHTTP: every status is read as net/http reads it, what is near a status line is one where it is for
// net/http, and what is cut is waited for.
func TestStatusAsNetHTTP(t *testing.T) {
	p := start(t, "status.c")
	ask := func(text string) string { return p.ask(t, fmt.Sprintf("%x", text)) }
	hold := func(line string) string {
		got, want := ask(line+"\r\n"), statusOf(line)
		if got != want {
			t.Errorf("%q: the parser says %q, net/http %q", line, got, want)
		}
		return got
	}
	for code := range 1000 {
		hold(fmt.Sprintf("HTTP/1.1 %03d Reason", code))
		hold(fmt.Sprintf("HTTP/1.0 %03d", code))
	}
	const good = "HTTP/1.1 404 Not Found"
	for i := range len("HTTP/1.1 404 ") {
		if got := ask(good[:i]); got != "more" {
			t.Errorf("of %q the parser says %q", good[:i], got)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 20000 {
		line := []byte(good)
		for range 1 + rnd.IntN(2) {
			line[rnd.IntN(13)] = "HTP/1.0249 x-+"[rnd.IntN(14)]
		}
		kind, _, _ := strings.Cut(hold(string(line)), " ")
		seen[kind]++
	}
	if seen["bad"] == 0 || seen["done"] == 0 {
		t.Errorf("seen were %v", seen)
	}
}
