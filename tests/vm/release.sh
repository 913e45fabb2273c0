# Sourced by who fetches packages of other releases than the machine's, whose own lists stay as they are. Needs say().

# own_release prints the machine's own release.
own_release() (
	. /etc/os-release
	echo "$VERSION_CODENAME"
)

# archive prints the address of the archive of the machine's own release.
archive() {
	apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
		awk -v codename="$(own_release)" '$2 == codename { print $1; exit }'
}

# use_release RELEASE DIR [deb-src] has apt know the packages of that release alone from here on, by lists that are fetched into DIR; with
# deb-src their sources too.
use_release() {
	from=$(archive)
	[ -n "$from" ] || { say 'apt knows no archive of this release'; exit 1; }
	mkdir -p "$2/lists/partial" "$2/cache"
	for kind in deb ${3:-}; do
		echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from $1 main"
	done >"$2/sources.list"
	release=$2
	with_lists apt-get update >&2
}

# with_lists COMMAND ARGUMENT… runs apt-get or apt-cache with the lists that are in use. The sandbox user of apt could not write to the working directory.
with_lists() {
	command=$1
	shift
	if [ -z "${release:-}" ]; then
		"$command" -q -o APT::Sandbox::User="$(id -un)" "$@"
		return
	fi
	"$command" -q -o APT::Sandbox::User="$(id -un)" -o Dir::Etc::sourcelist="$release/sources.list" -o Dir::Etc::sourceparts=- \
		-o Dir::State::lists="$release/lists" -o Dir::Cache="$release/cache" "$@"
}
