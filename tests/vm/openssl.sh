#!/bin/sh
# Fetches an openssl that is built with kTLS, which Debian's is since 13, and prints the flags of vmrun that bring it into a guest as
# /bin/openssl-ktls, with the C library that it needs. /bin/with-openssl-ktls runs another program with its libraries.
#
# It lies in ${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}/openssl-ktls and is fetched once, from the archive that the
# machine has its own packages from. Progress goes to standard error. Needs apt-get, dpkg-deb and flock, and no root.
set -eu
cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
dir=$cache/openssl-ktls

say() { echo "openssl.sh: $*" >&2; }

. "$(dirname "$0")/release.sh"

# fetch makes $dir complete.
fetch() {
	work=$(mktemp -d "$cache/.openssl.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	say 'fetching openssl of trixie'
	use_release trixie "$work"
	mkdir "$work/root"
	cd "$work"
	with_lists apt-get download openssl libssl3t64 libc6 libzstd1 zlib1g >&2
	for package in ./*.deb; do
		dpkg-deb -x "$package" root
	done
	mkdir kept
	cp -L root/usr/bin/openssl root/usr/lib/*/libssl.so.3 root/usr/lib/*/libcrypto.so.3 root/usr/lib/*/libc.so.6 root/usr/lib/*/libzstd.so.1 \
		root/usr/lib/*/libz.so.1 root/usr/lib/*/ld-linux-x86-64.so.2 kept
	printf '#!/bin/sh\nexec /ktls/ld-linux-x86-64.so.2 --library-path /ktls "$@"\n' >kept/with-openssl-ktls
	printf '#!/bin/sh\nexec /bin/with-openssl-ktls /ktls/openssl "$@"\n' >kept/openssl-ktls
	chmod 755 kept kept/*
	rm -rf "$dir"
	mv kept "$dir" # last: what is there is complete
	rm -rf "$work"
	trap - EXIT
}

[ "$(dpkg --print-architecture)" = amd64 ] || { say 'only amd64'; exit 1; }
mkdir -p "$cache"
exec 9>"$cache/.openssl-ktls.lock"
flock 9
[ -e "$dir/with-openssl-ktls" ] || fetch
echo "-f $dir:/ktls -f $dir/openssl-ktls:/bin/openssl-ktls -f $dir/with-openssl-ktls:/bin/with-openssl-ktls" \
	"-env SALLYPORT_OPENSSL_KTLS=/bin/openssl-ktls -env SALLYPORT_WITH_OPENSSL_KTLS=/bin/with-openssl-ktls"
