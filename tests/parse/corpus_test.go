package parse

import "testing"

// What libFuzzer found to reach all of a parser is read as the oracles read it, at every split.

func TestCorpusOfHTTP1(t *testing.T) {
	p := StartHTTP1(t)
	for _, input := range Corpus(t, "http1") {
		CheckHTTP1(t, p, input)
	}
}

func TestCorpusOfHTTP2(t *testing.T) {
	p := StartHTTP2(t)
	for _, input := range Corpus(t, "http2") {
		compareHTTP2(t, p, input, 1)
		compareHTTP2(t, p, input, len(input))
	}
}

func TestCorpusOfStatuses(t *testing.T) {
	p := start(t, "http2_status.c")
	for _, input := range Corpus(t, "http2_status") {
		compareStatuses(t, p, input, 1)
		compareStatuses(t, p, input, len(input))
	}
}

func TestCorpusOfClientHellos(t *testing.T) {
	p := StartClientHello(t)
	for _, input := range Corpus(t, "clienthello") {
		checkHello(t, p, input)
	}
}

func TestCorpusOfDNS(t *testing.T) {
	p := Start(t)
	for _, input := range Corpus(t, "dns") {
		compare(t, p, true, input)
		compare(t, p, false, input)
	}
}
