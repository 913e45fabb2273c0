#!/bin/sh
# Installs what a Debian machine lacks for the targets of the Makefile, and says nothing when it lacks nothing.
#
#   contrib/tools/setup.sh test|node|demo|generate|fuzz…
#
# test: QEMU, containerd, runc, podman, crun, rsyslog, nginx, wrk, wget, git, Python, Node, Java, dig, unbound, a C compiler. node: containerd, runc,
# CNI plugins, etcd, a C compiler. demo: containerd, runc, rsyslog. generate: clang and libbpf's headers. fuzz: clang with libFuzzer, xxd.
# Installing needs root; daemons that come with a package are not started.
set -eu

packages=
for set in "$@"; do
	case $set in
	test) packages="$packages qemu-system-x86 qemu-system-common busybox-static containerd runc podman crun rsyslog rsyslog-gnutls
		iproute2 procps gcc libc6-dev xz-utils cpio dpkg-dev curl openssl gnutls-bin libnss3-tools nginx-light wrk wget git python3 nodejs default-jre-headless bind9-dnsutils unbound" ;;
	node) packages="$packages busybox-static containerd runc containernetworking-plugins etcd-server iproute2 iptables util-linux gcc libc6-dev" ;;
	demo) packages="$packages busybox-static containerd runc rsyslog iproute2" ;;
	generate) packages="$packages clang-19 llvm-19 libbpf-dev linux-libc-dev" ;;
	fuzz) packages="$packages clang-19 libclang-rt-19-dev xxd" ;;
	*)
		echo "setup.sh: no set of packages is called $set; there are test, node, demo, generate and fuzz" >&2
		exit 2
		;;
	esac
done

command -v dpkg-query >/dev/null || {
	echo "setup.sh: this is no Debian; install yourself what does the work of: $(echo $packages)" >&2
	exit 0
}

missing=
for package in $packages; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || {
	echo "setup.sh: as root, run: apt-get install$missing" >&2
	exit 1
}

echo "setup.sh: installing$missing" >&2
# Without this file apt starts the daemons that it installs; ours are started by the tests, with their own configuration.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of names
install() { apt-get -q -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing >&2; }
install || {
	apt-get -q update >&2
	install
}
