#!/usr/bin/env bash
# Runs the tests of packages in a guest.
#
#   STEPS=STEP,STEP SKIPPED=PATTERN LADDER=first|last tests/vm/packages.sh VMRUN KERNELDIR PACKAGE... -- FLAG-OF-VMRUN...
#
# With STEPS what could be tested on each step of the ladder is tested on these, with SKIPPED not the tests whose names match.
#
# Two emulated machines on two busy processors lose time that a test cannot always plan for. A package that fails runs once
# more, and what failed the first time stays in the output: it is a defect of that test, to be mended, and not a reason to
# throw half an hour of other tests away. Exit code 1: a package failed twice.
set -euo pipefail
vmrun=$1 kernel=$2
shift 2
packages=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	packages+=("$1")
	shift
done
shift

# With a thread for each processor, QEMU before 8.1 translates code without keeping others from writing it. A guest that
# attaches and detaches programs all the time patches its kernel's text all the time, and now and then a processor goes on
# with what was there before, until the guest dies of a breakpoint that is long gone or, worse, calls what is no longer
# attached. Where that happened the processors take turns.
patches_text='/tests/privileged/ladder$'

# So they do where nothing races. A processor that waits for the other one spins, and where guests have fewer processors of the
# host than threads, that other one is not running meanwhile: threads cost half more than turns. Elsewhere they do
# not take turns, since attacks race as well.
races_nothing='/tests/(bpf/[a-z]+|oracle|privileged/gate)$'

# What has clients that are too large for every guest.
has_clients='/tests/privileged/tls$'

# What takes turns is one thread: it runs first on one kernel and last on another that is tested beside it, so that the host has
# about as many threads as processors.
run() {
	local status=0 rest clients
	[ "${LADDER:-first}" = last ] || group "$patches_text" "-turns ${flags[*]}" "$@" || status=1
	clients=$("${0%/*}/clients.sh") || status=1
	group "$has_clients" "${flags[*]} $clients" "$@" || status=1
	group "$races_nothing" "-turns ${flags[*]}" "$@" || status=1
	mapfile -t rest < <(printf '%s\n' "$@" | grep -Ev "$patches_text|$races_nothing|$has_clients")
	group . "${flags[*]}" "${rest[@]}" || status=1
	[ "${LADDER:-first}" = first ] || group "$patches_text" "-turns ${flags[*]}" "$@" || status=1
	return $status
}

# The packages whose names have the pattern, in guests with these flags.
group() {
	local pattern=$1 options=$2 some
	shift 2
	mapfile -t some < <(printf '%s\n' "$@" | grep -E "$pattern")
	[ ${#some[@]} = 0 ] || in_guests "$options" "${some[@]}"
}

in_guests() {
	local options=$1
	shift
	CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 "${GO:-go}" test -count=1 -timeout 40m -p "${VM_PARALLEL:-1}" \
		${SKIPPED:+-skip "$SKIPPED"} -exec "$vmrun -kernel $kernel $options" "$@"
}

flags=("$@" ${STEPS:+-env "SALLYPORT_STEPS=$STEPS"})
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run "${packages[@]}" 2>&1 | tee "$log" && exit 0
mapfile -t failed < <(awk -F '\t' '$1 == "FAIL" && $2 { sub(/ .*/, "", $2); print $2 }' "$log")
if [ ${#failed[@]} = 0 ]; then
	exit 1 # go test itself
fi
echo "== once more in a guest, having failed there: ${failed[*]}"
run "${failed[@]}"
