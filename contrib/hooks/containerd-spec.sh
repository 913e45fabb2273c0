#!/bin/sh
# Writes an OCI spec for containerd's base_runtime_spec: containerd's own default with the hook of Sallyport in it.
#
#   contrib/hooks/containerd-spec.sh [ARGUMENT OF sallyport-hook createRuntime…] >/etc/containerd/sallyport.json
#
# HOOK names the program (/usr/local/bin/sallyport-hook), CTR containerd's client (ctr).
set -eu
hook=${HOOK:-/usr/local/bin/sallyport-hook}
args='"sallyport-hook", "createRuntime"'
for arg in "$@"; do
	case $arg in
	*[!A-Za-z0-9/._=-]*)
		echo "containerd-spec.sh: cannot write the argument $arg into JSON" >&2
		exit 2
		;;
	esac
	args="$args, \"$arg\""
done
spec=$("${CTR:-ctr}" oci spec)
# The runtime ends a hook that outlives its own --timeout, which is at most a minute.
printf '{"hooks": {"createRuntime": [{"path": "%s", "args": [%s], "timeout": 65}]},\n%s\n' "$hook" "$args" "${spec#\{}"
