package gauntlet

// attack is one way past Sallyport. It is made by a session, which may reach the server's decoy port only, in a container
// whose Main may reach its open port and serve one.
type attack struct {
	name string
	line string // what the session runs of tests/victim, or after "!" of others; see scene.fill for the words in capitals
	main string // what Main runs meanwhile; "": it has ended
	kind kind
	lack string // not empty: why a kernel may not have it
	// lent: the session comes with a connection to the open port, descriptor 3, that a process of the node has made.
	lent bool
	// limit says of what gets through on some step why that is, and what to do.
	limit string
}

// kind is how an attack is seen to have succeeded.
type kind int

const (
	outward kind = iota // a packet reached the server, other than to the decoy
	inward              // the server's bytes reached the session
	taking              // the session was told that it worked
	lasting             // a connection that is older than the policy still carries bytes
	older               // the same of one that is older than the agent
)

const (
	bySession = "a session may act as Main where the step has no hook: `enforcement.borrowing` needs BPF LSM"
	byAsking  = "what Main does for who asks it is Main's: that it is asked is told (`enforcement.relaying`), where the step has a hook"
	byLender  = "a connection that a process of the node hands to a session is its maker's to the gate, and cgroup programs see no send on it: hand over none"
	byWriter  = "who may write the file that a rule names is that program: give containers a read-only root (`readOnlyRootFilesystem`)"
	byMounter = "who may mount in the container's own namespace (CAP_SYS_ADMIN) decides what lies at its paths: give it to no container whose rules name binaries"
	byFamily  = "cgroup programs see no families but IP: take vsock from the node, or its devices from pods"
	onAgent   = "no cgroup program sees this: the agent keeps what it holds, and puts back and tells what is taken away"
	byPacket  = "no hook sees these sockets made: their frames end at the veth, a hostNetwork pod's do not"
)

// attacks are all of them, in the order of the table.
func attacks() []attack {
	return []attack{
		{name: "a connection older than the agent", line: "hold-tcp SERVER4 OPEN 600000", kind: older},
		{name: "connect", line: "connect-tcp SERVER4 OPEN 500"},
		{name: "connect, IPv6", line: "connect-tcp SERVER6 OPEN 500"},
		{name: "connect, IPv4-mapped address", line: "connect-tcp ::ffff:SERVER4 OPEN 500"},
		{name: "connect that does not block", line: "nonblock-tcp SERVER4 OPEN 500"},
		{name: "connect by a 32-bit call", line: "connect32-tcp SERVER4 OPEN", lack: "the 32-bit ABI"},
		{name: "connect while a thread rewrites the address", line: "toctou-tcp SERVER4 DECOY SERVER4 OPEN 1500"},
		{name: "MSG_FASTOPEN", line: "fastopen SERVER4 OPEN 500"},
		{name: "MSG_FASTOPEN, IPv6", line: "fastopen SERVER6 OPEN 500"},
		{name: "TCP_FASTOPEN_CONNECT", line: "fastopen-connect SERVER4 OPEN 500"},
		{name: "UDP connect and send", line: "connect-udp SERVER4 OPEN"},
		{name: "UDP sendto", line: "sendto-udp SERVER4 OPEN"},
		{name: "UDP sendto, IPv4-mapped address", line: "sendto-udp ::ffff:SERVER4 OPEN"},
		{name: "UDP sendto, AF_UNSPEC address", line: "udp-unspec SERVER4 OPEN"},
		{name: "UDP sendmsg", line: "sendmsg-udp SERVER6 OPEN"},
		{name: "UDP sendmmsg", line: "sendmmsg-udp SERVER4 OPEN"},
		{name: "UDP connected again, elsewhere", line: "udp-reconnect SERVER4 DECOY SERVER4 OPEN"},
		{name: "UDP connected, sent elsewhere", line: "udp-elsewhere SERVER4 DECOY SERVER4 OPEN"},
		{name: "UDP, ten datagrams by one send (GSO)", line: "udp-gso SERVER4 OPEN"},
		{name: "SCTP connect", line: "connect-sctp SERVER4 OPEN 500", lack: "SCTP"},
		{name: "SCTP connectx", line: "connectx-sctp SERVER4 OPEN 500", lack: "SCTP"},
		{name: "SCTP send that connects", line: "sendto-sctp SERVER4 OPEN 500", lack: "SCTP"},
		{name: "link-local metadata", line: "connect-tcp METADATA OPEN 500"},
		{name: "link-local metadata, IPv4-mapped address", line: "sendto-udp ::ffff:METADATA OPEN"},
		{name: "loopback, which a rule denies, by 0.0.0.0", line: "connect-tcp 0.0.0.0 SERVE 500", main: serving, kind: taking},
		{name: "loopback, which a rule denies, by ::", line: "connect-tcp :: SERVE 500", main: serving, kind: taking},
		{name: "loopback, which a rule denies, by ::ffff:0.0.0.0", line: "connect-tcp ::ffff:0.0.0.0 SERVE 500", main: serving, kind: taking},
		{name: "an address that netlink gives the pod", line: "netlink-address eth0 THIRD4 SERVER4 OPEN"},
		{name: "io_uring connect", line: "uring-connect SERVER4 OPEN 500", lack: "io_uring"},
		{name: "io_uring connect in a worker", line: "uring-connect-async SERVER4 OPEN 500", lack: "io_uring"},
		{name: "io_uring connect by SQPOLL", line: "uring-connect-sqpoll SERVER4 OPEN 500", lack: "io_uring"},
		{name: "io_uring sendmsg", line: "uring-sendmsg SERVER4 OPEN 500", lack: "io_uring"},
		{name: "io_uring sendmsg by SQPOLL", line: "uring-sendmsg-sqpoll SERVER4 OPEN 500", lack: "io_uring"},
		{name: "io_uring send without a copy", line: "uring-send-zc SERVER4 OPEN 500", lack: "io_uring"},
		{name: "io_uring sendmsg by a ring that its parent made (SQPOLL)", line: "uring-inherited SERVER4 OPEN 500", lack: "io_uring"},
		{name: "ping socket", line: "ping SERVER4"},
		{name: "ping socket, IPv6", line: "ping SERVER6"},
		{name: "raw ICMP", line: "ping-raw SERVER4"},
		{name: "raw IP, own header", line: "raw-udp SERVER4 OPEN POD4"},
		{name: "raw IP, another's address", line: "raw-udp SERVER4 OPEN NEXT4"},
		{name: "packet socket, own frame", line: "packet eth0 SERVER4 OPEN POD4 MAC", limit: byPacket},
		{name: "packet socket, IPv6 frame", line: "packet eth0 SERVER6 OPEN POD6 MAC", limit: byPacket},
		{name: "TUN, forwarded by the pod", line: "tun SERVER4 OPEN NEXT4", lack: "TUN"},
		{name: "MPTCP socket", line: "socket inet stream mptcp", kind: taking, lack: "MPTCP"},
		{name: "vsock socket", line: "socket vsock stream", kind: taking, lack: "vsock", limit: byFamily},
		{name: "bind shell on a port of its own", line: "listen-tcp POD4 4001 1500", kind: inward},
		{name: "bind shell beside Main's server (SO_REUSEPORT)", line: "listen-tcp POD4 SERVE 1500", main: "listen-tcp POD4 SERVE 60000", kind: inward},
		{name: "a UDP server on Main's port", line: "udp-server 0.0.0.0 SERVE 1500", kind: inward},
		{name: "a connection older than the policy", line: "hold-tcp SERVER4 OPEN 60000", kind: lasting},
		{name: "a connection made by a process of the node, before the session joined", line: "send-fd 3", lent: true, limit: byLender},
		{name: "double fork", line: "double-fork -- connect-tcp SERVER4 OPEN 500"},
		{name: "an orphan of orphans", line: "orphan-chain 3 -- connect-tcp SERVER4 OPEN 500"},
		{name: "a child cloned into another cgroup", line: "into-cgroup FREE -- connect-tcp SERVER4 OPEN 500"},
		{name: "CLONE_PARENT", line: "clone-parent -- connect-tcp SERVER4 OPEN 500"},
		{name: "setsid, daemon", line: "daemon -- connect-tcp SERVER4 OPEN 500"},
		{name: "a pid namespace of its own", line: "unshare-pid -- connect-tcp SERVER4 OPEN 500"},
		{name: "another's pid, after its death", line: "pid-reuse -- connect-tcp SERVER4 OPEN 500"},
		{name: "the node's network namespace (setns)", line: "enter NODE -- connect-tcp SERVER4 OPEN 500"},
		{name: "the node's network namespace, UDP", line: "enter NODE -- sendto-udp SERVER4 OPEN"},
		{name: "all of a process of the node but its pids (nsenter)", line: "enter-process AGENT enter NODE -- connect-tcp SERVER4 OPEN 500"},
		{name: "exec from a thread", line: "thread-exec -- connect-tcp SERVER4 OPEN 500"},
		{name: "another argv[0] and name", line: "argv0 web rename-comm web -- connect-tcp SERVER4 OPEN 500"},
		{name: "a program in memory", line: "memfd -- connect-tcp SERVER4 OPEN 500"},
		{name: "a copied program", line: "copy /tmp/gauntlet-copy -- connect-tcp SERVER4 OPEN 500"},
		{name: "a hard link", line: "copy FILES/gauntlet-file hardlink FILES/gauntlet-link -- connect-tcp SERVER4 OPEN 500"},
		{name: "a symbolic link at an allowed program's path", line: "symlink PLANT -- connect-tcp SERVER4 OPEN 500"},
		{name: "a deleted program", line: "deleted FILES/gauntlet-gone -- connect-tcp SERVER4 OPEN 500"},
		{name: "a script", line: "script FILES/gauntlet-script -- connect-tcp SERVER4 OPEN 500"},
		{name: "an interpreter (perl)", line: "!/usr/bin/perl -e socket(S,2,1,0);connect(S,pack(q(SnC4x8),2,OPEN,split(/[.]/,q(SERVER4))))", lack: "perl"},
		{name: "a busybox applet", line: "!/bin/busybox nc -w 1 SERVER4 OPEN", lack: "busybox"},
		{name: "an allowed program by the loader (ld.so PROGRAM)", line: "!/lib64/ld-linux-x86-64.so.2 /usr/bin/curl -s -m 1 http://SERVER4:OPEN/", lack: "curl"},
		{name: "an allowed program's path through /proc/PID/root of the node", line: "copy /proc/AGENT/rootPLANT -- connect-tcp SERVER4 OPEN 500"},
		{name: "a file written at an allowed program's path", line: "copy PLANT -- connect-tcp SERVER4 OPEN 500", limit: byWriter},
		{name: "laid over an allowed program, in a mount namespace of its own", line: "mount-over TOOL -- connect-tcp SERVER4 OPEN 500"},
		{name: "at an allowed program's path, mounted nowhere", line: "mount-nowhere TOOL -- connect-tcp SERVER4 OPEN 500"},
		{name: "laid over an allowed program, in the container's own mount namespace", line: "mount-inside TOOL -- connect-tcp SERVER4 OPEN 500", limit: byMounter},
		{name: "Main's connection by SCM_RIGHTS", line: "take @gauntlet", main: offering, limit: bySession},
		{name: "Main's connection by pidfd_getfd", line: "reach getfd PID", main: offering, limit: bySession},
		{name: "Main's io_uring by pidfd_getfd (SQPOLL)", line: "take-ring PID", main: "offer-ring SERVER4 OPEN 60000", lack: "io_uring", limit: bySession},
		{name: "ptrace of Main", line: "reach ptrace PID", main: offering, kind: taking, limit: bySession},
		{name: "/proc/PID/mem of Main", line: "reach mem PID", main: offering, kind: taking, limit: bySession},
		{name: "process_vm_writev into Main", line: "reach vm PID", main: offering, kind: taking, limit: bySession},
		{name: "Main's proxy, by its unix socket", line: "ask-relay @gauntlet", main: "relay-tcp SERVER4 OPEN @gauntlet 60000", limit: byAsking},
		{name: "a signal to the agent", line: "signal AGENT 15", kind: taking, limit: onAgent},
		{name: "a signal to the agent, sent by a socket", line: "sigio AGENT", kind: taking, limit: onAgent},
		{name: "a limit of the agent", line: "limit AGENT", kind: taking, limit: onAgent},
		{name: "ptrace of the agent", line: "reach ptrace AGENT", kind: taking, limit: onAgent},
		{name: "/proc/PID/mem of the agent", line: "reach mem AGENT", kind: taking, limit: onAgent},
		{name: "somebody's BPF map by its number", line: "bpf map", kind: taking, limit: onAgent},
		{name: "somebody's BPF program by its number", line: "bpf program", kind: taking, limit: onAgent},
		{name: "somebody's BPF map by its pin", line: "bpf PINNED", kind: taking, limit: onAgent},
		{name: "a BPF program that traces", line: "bpf tracer", kind: taking, limit: onAgent},
	}
}

// offering is a Main that has a connection and hands it to everybody.
const offering = "offer-tcp SERVER4 OPEN @gauntlet 60000"

// serving is a Main that serves its port to who is inside the pod, too.
const serving = "listen-tcp :: SERVE 60000"

// governing is what governs the pod.
const governing = `
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: gauntlet, namespace: default}
spec:
  podSelector: {matchLabels: {app: web}}
  rules:
  - name: web
    processes: [{origins: [Main]}]
    egress:
    - toCIDR: [SERVER4/32, SERVER6/128]
      toPorts: [{ports: [{port: "OPEN", protocol: TCP}, {port: "OPEN", protocol: UDP}]}]
    ingress:
    - fromCIDR: [SERVER4/32]
      toPorts: [{ports: [{port: "SERVE", protocol: TCP}, {port: "SERVE", protocol: UDP}]}]
  - name: sessions
    processes: [{origins: [Exec]}]
    egress:
    - toCIDR: [SERVER4/32]
      toPorts: [{ports: [{port: "DECOY", protocol: TCP}, {port: "DECOY", protocol: UDP}]}]
    ingress:
    - fromCIDR: [SERVER4/32]
      toPorts: [{ports: [{port: "4999", protocol: TCP}, {port: "4999", protocol: UDP}]}]
  - name: inside
    action: Deny
    processes: [{origins: [Exec]}]
    egress:
    - toCIDR: [127.0.0.0/8, "::1/128"]
      toPorts: [{ports: [{port: "SERVE", protocol: TCP}]}]
  - name: tool
    processes: [{origins: [Exec], binaries: ["TOOL", "PLANT", "/usr/bin/curl"]}]
    egress:
    - toCIDR: [SERVER4/32]
      toPorts: [{ports: [{port: "OPEN", protocol: TCP}]}]
`
