#!/bin/sh
# Fetches the kernels of the VM tests from the machine's own apt sources, or a later release of their archive, and prints the
# directory of each, one a line.
#
#   tests/vm/kernels.sh [VERSION…]        VERSION: 6.1, 6.12 or 7.3; without any, the first two
#
# They lie in ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}/kernels/VERSION and are fetched once. A
# pinned package that the archive no longer has is replaced by the newest of its series, with a warning. Progress goes
# to standard error. Needs apt-get, dpkg-deb and flock; root only where the package lists are missing.
set -eu

# pin VERSION prints "package version" of the kernel that the tests are known to pass on.
pin() {
	case $1 in
	6.1) echo 'linux-image-6.1.0-56-cloud-amd64 6.1.192-2' ;;
	6.12) echo 'linux-image-6.12.117+deb12-cloud-amd64 6.12.117-1~deb12u1' ;;
	7.3) echo 'linux-image-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1' ;;
	*) fail "no kernel of version $1; known are 6.1, 6.12 and 7.3" ;;
	esac
}

# series VERSION prints the pattern that the names of all its packages match.
series() {
	case $1 in
	6.1) echo '^linux-image-6\.1\.0-[0-9]+-cloud-amd64$' ;;
	6.12) echo '^linux-image-6\.12\.[0-9]+\+deb[0-9]+-cloud-amd64$' ;;
	7.3) echo '^linux-image-[7-9]\.[0-9.]+\+deb[0-9]+-cloud-amd64$' ;; # the newest that there is
	esac
}

# release_of VERSION prints the release that has it, where that is not the machine's.
release_of() {
	case $1 in
	7.3) echo trixie-backports ;;
	esac
}

# parts VERSION PACKAGE prints what else the kernel is made of. Since 6.19 its package only names them.
parts() {
	case $1 in
	7.3) echo "linux-binary-${2#linux-image-}" "linux-modules-${2#linux-image-}" "linux-base-${2#linux-image-}" ;;
	esac
}

say() { echo "kernels.sh: $*" >&2; }

fail() {
	say "$*"
	exit 1
}

. "$(dirname "$0")/release.sh"

# download PACKAGE[=VERSION] leaves the .deb in the working directory.
download() { with_lists apt-get download "$1" >&2; }

# newest VERSION prints the newest package of the series that apt knows.
newest() {
	with_lists apt-cache pkgnames linux-image- | grep -E "$(series "$1")" | sort -V | tail -n 1
}

# obtain VERSION PACKAGE PINNED fetches the .deb and prints the name of the package that it got.
obtain() {
	if download "$2=$3"; then
		echo "$2"
		return
	fi
	if [ "$(id -u)" = 0 ] && [ -z "${release:-}" ]; then
		say 'the package lists may be old: updating them'
		apt-get -q update >&2 || say 'the update ended with an error; going on with what there is'
		if download "$2=$3"; then
			echo "$2"
			return
		fi
	fi
	other=$(newest "$1")
	[ -n "$other" ] || fail "apt knows no kernel of the series $1"
	say "WARNING: $2=$3 is gone, taking $other"
	download "$other" || fail "cannot download $other"
	echo "$other"
}

# fetch VERSION makes $cache/VERSION complete; .package, written last, says for which pin and from which package.
fetch() {
	pinned=$(pin "$1")
	if [ -f "$cache/$1/.package" ] && [ "$(head -n 1 "$cache/$1/.package")" = "$pinned" ]; then
		return
	fi
	work=$(mktemp -d "$cache/.fetch.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	say "fetching kernel $1"
	release=
	later=$(release_of "$1")
	[ -z "$later" ] || use_release "$later" "$work"
	package=$(cd "$work" && obtain "$1" "${pinned% *}" "${pinned#* }")
	(cd "$work" && for part in $(parts "$1" "$package"); do download "$part"; done)
	for deb in "$work"/*.deb; do
		dpkg-deb -x "$deb" "$work/root"
	done
	printf '%s\n%s\n' "$pinned" "$package" >"$work/root/.package"
	chmod 755 "$work/root"
	rm -rf "${cache:?}/$1"
	mv "$work/root" "$cache/$1"
	rm -rf "$work"
	trap - EXIT
	say "kernel $1 is $package"
}

cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}/kernels
[ "$(dpkg --print-architecture)" = amd64 ] || fail 'only amd64 kernels are pinned'
[ $# -gt 0 ] || set -- 6.1 6.12
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
for version; do
	fetch "$version"
	echo "$cache/$version"
done
