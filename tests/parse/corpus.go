package parse

import (
	"embed"
	"encoding/hex"
	"strings"
	"testing"
)

// corpora are inputs in hexadecimal, one in a line. contrib/tools/fuzzparsers.sh writes them.
//
//go:embed testdata/corpus/*.hex
var corpora embed.FS

// Corpus is what was kept of the inputs that libFuzzer found for a parser: http1, http2, http2_status, clienthello, dns.
func Corpus(t testing.TB, parser string) (inputs [][]byte) {
	t.Helper()
	text, err := corpora.ReadFile("testdata/corpus/" + parser + ".hex")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		input, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", parser, err)
		}
		inputs = append(inputs, input)
	}
	if len(inputs) < 50 {
		t.Fatalf("%s has %d inputs: it was cut", parser, len(inputs))
	}
	return inputs
}
