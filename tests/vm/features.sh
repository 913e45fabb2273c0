#!/bin/sh
# Runs the tests of kernels that lack something in a guest.
#
#   tests/vm/features.sh VMRUN KERNELDIR SALLYPORT VICTIM [FLAG-OF-VMRUN...]
#
# SALLYPORT and VICTIM are static programs. Exit code and output are those of the tests.
set -eu
vmrun=$1 kernel=$2 sallyport=$3 victim=$4
shift 4
cd "$(dirname "$0")/../.."

program=$(mktemp -d)/features.test
trap 'rm -r "$(dirname "$program")"' EXIT
CGO_ENABLED=0 go test -c -o "$program" ./tests/features
"$vmrun" -turns -timeout 10m -kernel "$kernel" "$@" -dyn /usr/bin/openssl \
	-f "$sallyport:/usr/bin/sallyport" -env SALLYPORT_BINARY=/usr/bin/sallyport \
	-f "$victim:/bin/victim" -env SALLYPORT_VICTIM=/bin/victim -env REQUIRE_PRIVILEGED=1 -env FEATURE="${FEATURE:-}" -env FEATURES="${FEATURES:-}" \
	"$program" -test.v -test.timeout 9m
