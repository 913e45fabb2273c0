#!/usr/bin/env bash
# Usage: failures.sh LOG...
# What failed in the output of `make test`: each failed test with its first lines, each failed package, what a kernel or a
# runtime said before it ended, each failed target. 60 lines at most, the same ones once.
set -euo pipefail

echo "== what failed"
awk '
	{ sub(/\r$/, "") }
	/^ *--- FAIL/ { print substr($0, 1, 300); left = 8; next }
	/^(FAIL|panic:|fatal error:|make.*\*\*\*|vmrun:)/ || /(BUG|WARNING|Oops|Kernel panic).*:/ { left = 0; print substr($0, 1, 300); next }
	/^ / && left > 0 { left--; print substr($0, 1, 300); next }
	{ left = 0 }
' "$@" | awk '!seen[$0]++' | head -n 60
