#!/usr/bin/env bash
# Makes tests/bpf/loadgate/stats.md of what tests of that package print on several kernels, all of it on standard input.
set -euo pipefail
cat <<'HEAD'
# What the verifier looks at

Instructions that the verifier of each kernel goes through until it lets a program in; it gives up at 1,000,000. Made by `make bpf-stats`. Where
a program takes a tenth more, `tests/bpf/loadgate` fails until this table is made again. "–": that kernel does not have what the program needs.

HEAD
lines=$(grep -P 'verified\t')
kernels=$(cut -f3 <<<"$lines" | sort -Vu)
printf '| program |%s\n' "$(printf ' %s |' $kernels)"
printf -- '|---|%s\n' "$(printf -- '---|%.0s' $kernels)"
awk -F '\t' -v kernels="$(echo $kernels)" '
	{ n[$2, $3] = $4; programs[$2] }
	END {
		count = split(kernels, order, " ")
		for (p in programs) {
			row = "| " p " |"
			for (i = 1; i <= count; i++) row = row " " ((p, order[i]) in n ? n[p, order[i]] : "–") " |"
			print row
		}
	}' <<<"$lines" | LC_ALL=C sort
