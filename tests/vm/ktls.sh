#!/bin/sh
# Gets programs whose libraries are built with kTLS, and prints the flags of vmrun that bring them into a guest:
#
#   /bin/openssl-ktls       openssl of Debian 13, the first whose is, with the C library that it needs; /bin/with-openssl-ktls runs another
#                           program with its libraries
#   /bin/gnutls-ktls        tests/victim/gnutls with GnuTLS inside. Debian's has the code and leaves it out, so the two files that ask
#                           for it are compiled anew, and take the place of theirs in the archive of its package: a few seconds
#
# They lie in ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport} and are made once, from the archive that the machine has its
# own packages from. Progress goes to standard error. Needs apt-get, dpkg-deb, dpkg-source, gnutls-bin, cc and flock, and no root.
set -eu
cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
here=$(cd "$(dirname "$0")" && pwd)

say() { echo "ktls.sh: $*" >&2; }

. "$here/release.sh"

# complete NAME MAKE RELEASE [deb-src] makes $cache/NAME of what MAKE leaves in the folder kept, from packages of a release.
complete() {
	name=$1 make=$2 from_release=$3
	shift 3
	[ ! -e "$cache/$name" ] || return 0
	work=$(mktemp -d "$cache/.ktls.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	say "making $name from packages of $from_release"
	use_release "$from_release" "$work" "$@"
	mkdir "$work/root" "$work/kept"
	cd "$work"
	"$make" >&2
	chmod 755 kept kept/*
	mv kept "$cache/$name" # last: what is there is complete
	rm -rf "$work"
	trap - EXIT
}

# unpack PACKAGE… has root hold what is in packages.
unpack() {
	with_lists apt-get download "$@"
	for package in ./*.deb; do
		dpkg-deb -x "$package" root
	done
}

make_openssl() {
	unpack openssl libssl3t64 libc6 libzstd1 zlib1g
	cp -L root/usr/bin/openssl root/usr/lib/*/libssl.so.3 root/usr/lib/*/libcrypto.so.3 root/usr/lib/*/libc.so.6 root/usr/lib/*/libzstd.so.1 \
		root/usr/lib/*/libz.so.1 root/usr/lib/*/ld-linux-x86-64.so.2 kept
	printf '#!/bin/sh\nexec /ktls/ld-linux-x86-64.so.2 --library-path /ktls "$@"\n' >kept/with-openssl-ktls
	printf '#!/bin/sh\nexec /bin/with-openssl-ktls /ktls/openssl "$@"\n' >kept/openssl-ktls
}

# make_gnutls does without its configure, which takes longer than all else: what these files ask of config.h is little.
make_gnutls() {
	unpack libgnutls28-dev libtasn1-6-dev
	with_lists apt-get source gnutls28 >/dev/null
	source=$(echo gnutls28-*/)
	{
		printf '#define %s 1\n' ENABLE_KTLS HAVE_STDBOOL_H HAVE_SYS_SOCKET_H HAVE_UNISTD_H C99_MACROS
		printf '#define PACKAGE "gnutls"\n#define VERSION "with kTLS"\n'
		grep -v '^#undef' "$source/config.h.in"
	} >config.h
	for file in system/ktls handshake; do
		cc -O1 -w -D_GNU_SOURCE -DHAVE_CONFIG_H -I. -I"$source/lib" -I"$source/lib/includes" -I"$source/gl" -isystem root/usr/include \
			-c "$source/lib/$file.c" -o "${file##*/}.o"
	done
	cp root/usr/lib/*/libgnutls.a .
	ar r libgnutls.a ktls.o handshake.o
	# shellcheck disable=SC2046 # a list of files: what GnuTLS of this machine is linked with
	cc -O1 -Wall -Wextra -isystem root/usr/include -o kept/gnutls-ktls "$here/../victim/gnutls/client.c" libgnutls.a \
		$(ldd "$(command -v gnutls-cli)" | awk '$3 ~ /libgnutls\.so/ { print $3 }' | xargs ldd | awk '$2 == "=>" { print $3 }')
}

[ "$(dpkg --print-architecture)" = amd64 ] || { say 'only amd64'; exit 1; }
mkdir -p "$cache"
exec 9>"$cache/.ktls.lock"
flock 9
complete openssl-ktls make_openssl trixie
complete gnutls-ktls make_gnutls "$(own_release)" deb-src
openssl=$cache/openssl-ktls gnutls=$cache/gnutls-ktls
echo "-f $openssl:/ktls -f $openssl/openssl-ktls:/bin/openssl-ktls -f $openssl/with-openssl-ktls:/bin/with-openssl-ktls" \
	"-dyn $gnutls/gnutls-ktls:/bin/gnutls-ktls -env SALLYPORT_OPENSSL_KTLS=/bin/openssl-ktls" \
	"-env SALLYPORT_WITH_OPENSSL_KTLS=/bin/with-openssl-ktls -env SALLYPORT_GNUTLS_KTLS=/bin/gnutls-ktls"
