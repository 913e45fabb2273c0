#!/bin/sh
# Runs libFuzzer on each parser of bpf/include/parse under ASan and UBSan, RUNS executions of each (default 1000000), and ends
# at the first finding. It begins with what tests/parse/testdata/corpus holds, and with KEEP=1 puts there, smallest first, what
# reaches code or counts that nothing before it does.
set -eu

runs=${RUNS:-1000000}
build=${BUILD:-build}/fuzz
corpora=tests/parse/testdata/corpus
mkdir -p "$build" "$corpora"

# libFuzzer's counters make it fast; comparisons are traced in its first runs alone, as that takes as long as the parsers.
compile() {
	clang-19 -O2 -g -std=gnu11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Wall -Wextra -Wno-unused-parameter \
		-Wno-unused-function -Ibpf/include "$@"
}

fuzz() { # parser executions program
	nice -n 19 "$3" -runs="$2" -max_len="$max" -reload=0 -timeout=20 -print_final_stats=1 -artifact_prefix="$build/$1-" "$build/$1.found" 2>"$build/$1.log" || {
		tail -n 40 "$build/$1.log" >&2
		exit 1
	}
	sed -n "s/^stat::number_of_executed_units: */$1: executions /p" "$build/$1.log"
}

for parser in http1 http2 http2_status clienthello dns; do
	max=300
	mkdir -p "$build/$parser.found"
	n=0
	while read -r line; do
		n=$((n + 1))
		echo "$line" | xxd -r -p >"$build/$parser.found/kept-$n"
	done <"$corpora/$parser.hex"
	compile -o "$build/$parser.cmp" "tests/parse/fuzz/$parser.c"
	compile -fno-sanitize-coverage=trace-cmp -o "$build/$parser" "tests/parse/fuzz/$parser.c"
	fuzz "$parser" $((runs / 100 + 1)) "$build/$parser.cmp"
	fuzz "$parser" "$runs" "$build/$parser"
	[ "${KEEP:-}" ] || continue
	rm -rf "$build/$parser.least"
	mkdir "$build/$parser.least"
	"$build/$parser" -merge=1 -max_len=$max "$build/$parser.least" "$build/$parser.found" 2>"$build/$parser.log"
	find "$build/$parser.least" -type f -exec sh -c 'xxd -p -c 0 "$1"' sh {} \; | awk '{print length, $0}' | sort -n | cut -d' ' -f2 >"$corpora/$parser.hex"
done
