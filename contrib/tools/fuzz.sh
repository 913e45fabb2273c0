#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME (default 10s), one after the other, and ends at the first finding.
set -eu

grep -rl --include='*_test.go' '^func Fuzz' agent policy probes runtime tests 2>/dev/null | sort | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r target; do
		echo "== $(dirname "$file") $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "./$(dirname "$file")" </dev/null
	done
done
