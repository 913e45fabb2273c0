#!/bin/sh
# Runs tests of containers, and of pods over the CRI, of Debian's containerd in a guest: cgroup v2 alone, and BPF LSM.
#
#   tests/vm/node.sh VMRUN KERNELDIR SALLYPORT HOOK VICTIM PACKAGE TESTS
#
# SALLYPORT, HOOK and VICTIM are static programs, TESTS is a regular expression. Exit code and output are those of the
# tests. GUEST_MINUTES (10) is how long the guest may live, SOAK how long the soak of tests/containers/agent lasts.
set -eu
vmrun=$1 kernel=$2 sallyport=$3 hook=$4 victim=$5 package=$6 tests=$7
cd "$(dirname "$0")/../.."

program=$(mktemp -d)/node.test
trap 'rm -r "$(dirname "$program")"' EXIT
CGO_ENABLED=0 go test -c -o "$program" "$package"

# Guests have no disk: programs come in with their libraries.
set --
for name in containerd containerd-shim-runc-v2 ctr runc; do
	path=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v "$name")
	set -- "$@" -dyn "$path:/usr/bin/$name"
done
set -- "$@" -dyn /usr/bin/curl
for name in bridge host-local loopback; do
	set -- "$@" -dyn "/usr/lib/cni/$name"
done
for path in /usr/bin/busybox /bin/sh /usr/bin/cat; do
	set -- "$@" -f "$(command -v busybox):$path"
done
minutes=${GUEST_MINUTES:-10}
"$vmrun" -m 3072 -timeout "${minutes}m" -kernel "$kernel" -modules +bridge "$@" -f /etc/resolv.conf -f /etc/hosts \
	-f "$PWD/contrib/hooks/containerd-spec.sh:/contrib/hooks/containerd-spec.sh" \
	-f "$sallyport:/usr/bin/sallyport" -env SALLYPORT_BINARY=/usr/bin/sallyport \
	-f "$hook:/usr/bin/sallyport-hook" -env SALLYPORT_HOOK=/usr/bin/sallyport-hook \
	-f "$victim:/bin/victim" -env SALLYPORT_VICTIM=/bin/victim -env REQUIRE_PRIVILEGED=1 -env SOAK="${SOAK:-}" -env PATH=/usr/bin:/bin \
	"$program" -test.v -test.run "$tests" -test.timeout "$((minutes - 1))m"
