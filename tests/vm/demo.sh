#!/bin/sh
# Runs the demo in a guest: real containerd, runc and rsyslogd on another kernel.
#
#   tests/vm/demo.sh VMRUN KERNELDIR SALLYPORT STEP
#
# STEP is the one step of the enforcement ladder that may be used. Exit code and output are the demo's.
set -eu
vmrun=$1 kernel=$2 sallyport=$3 step=$4

# Guests have no disk: programs come in with their libraries, rsyslogd with its modules too.
set --
for program in containerd containerd-shim-runc-v2 ctr runc rsyslogd; do
	path=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v "$program")
	set -- "$@" -dyn "$path:/usr/bin/$program"
done
modules=$(dirname "$(dpkg -L rsyslog | grep '/imuxsock\.so$')")
exec "$vmrun" -m 2048 -timeout 10m -kernel "$kernel" "$@" -f "$modules:$modules" \
	-f "$(command -v busybox):/usr/bin/busybox" -env PATH=/usr/bin:/bin "$sallyport" demo --steps "$step"
