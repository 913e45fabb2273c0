#!/bin/bash
# Builds the programs of Kubernetes that a test node runs, once, into the user's cache, and prints the folder they are in.
#
#   build.sh [PROGRAM…]        all that go.mod names, in the order in which tests can use them
#
# About eight minutes on two cores and 7 GB of Go's build cache; nothing to do, and no word, when they are there.
# $SALLYPORT_CACHE is where what is built once is kept (~/.cache/sallyport).
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")"

module=k8s.io/kubernetes
version=$(GOWORK=off go list -mod=readonly -m -f '{{.Version}}' "$module")
cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
dir=$cache/kubernetes/$version
[ $# -gt 0 ] || set -- kube-apiserver kubectl kubelet kube-controller-manager kube-scheduler kube-proxy

missing=()
for program in "$@"; do
	[ -x "$dir/$program" ] || missing+=("$program")
done
echo "$dir"
[ ${#missing[@]} -gt 0 ] || exit 0

# Two builds at once would do everything twice; the second one finds what the first one made.
mkdir -p "$dir"
exec 9>"$dir/.lock"
flock 9

minor=${version#v*.}
stamp=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	stamp+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
done
for program in "${missing[@]}"; do
	[ ! -x "$dir/$program" ] || continue
	echo "building $program $version (once, into $dir)" >&2
	begin=$SECONDS
	CGO_ENABLED=0 GOWORK=off nice go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w$stamp" \
		-o "$dir/$program.new" "$module/cmd/$program"
	mv "$dir/$program.new" "$dir/$program" # whole or not at all
	echo "built $program in $((SECONDS - begin)) s" >&2
done
