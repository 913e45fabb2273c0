#!/bin/sh
# Prints the flags of vmrun that bring the clients of tests/privileged/tls into a guest, which has no packages: programs with
# their libraries, of Python what the tests import, of git what it needs to clone. What this machine lacks is left out, and the
# tests say so.
set -eu
out="-m 2048"
program() {
	[ ! -e "$1" ] || out="$out -dyn $1:${2:-$1}"
}
program /usr/bin/wget
program /usr/bin/tstclnt
for library in /usr/lib/*-linux-gnu/libsoftokn3.so /usr/lib/*-linux-gnu/libfreebl3.so /usr/lib/*-linux-gnu/libfreeblpriv3.so; do
	program "$library" # which NSS loads when it runs
done
program /usr/bin/git
program /usr/lib/git-core/git-remote-http /usr/lib/git-core/git-remote-https
program "$(readlink -f /usr/bin/node || echo /usr/bin/node)" /usr/bin/node
python=$(readlink -f /usr/bin/python3 || echo /usr/bin/python3)
if [ -x "$python" ]; then
	program "$python" /usr/bin/python3
	for file in $("$python" -I -c '
import asyncio, encodings.idna, encodings.latin_1, http.client, http.server, os, ssl, sys
files = {m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)}
print(*sorted(files | {os.__file__}))'); do
		case $file in
		*.so) program "$file" ;;
		*) out="$out -f $file" ;;
		esac
	done
fi
ktls=$("${0%/*}/ktls.sh")
echo "$out $ktls"
