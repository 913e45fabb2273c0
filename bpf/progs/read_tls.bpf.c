// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * READ in TLS libraries: probes on the functions of OpenSSL, BoringSSL and GnuTLS, which take the same
 * arguments in the same places: the object, the bytes, how many; and on those of NSS and of Go's crypto/tls.
 *
 * read_tls_use       handshake, read: the object is used
 * read_tls_write     write: the bytes are judged before they are encrypted; returns how many it took
 * read_tls_write_ex  the same, for SSL_write_ex, which returns 1 and leaves the number in memory
 * read_tls_write_ex2 the same with flags before that, for SSL_write_ex2
 * read_tls_read      read, where answers are told: remembers where the bytes will be, and read_tls_got looks at them
 * read_tls_unread    ways out that nobody reads (early data, sendfile)
 * read_tls_again     clear: OpenSSL itself begins every handshake with it
 * read_tls_end       free
 * read_nss_import    SSL_ImportFD, where it returns: the descriptor has an object from now on
 * read_nss_use       SSL_ForceHandshake, which takes the descriptor
 * read_nss_write     ssl_SecureSend; returns how many it took
 * read_nss_send      ssl_DefSend: what is encrypted goes to the socket
 * read_go_start      (*tls.Conn).clientHandshake
 * read_go_call       (*tls.Conn).writeRecordLocked, where bytes become records: its first instruction
 * read_go_record     the same, behind the check of the stack: what is before that can run twice in a call
 * read_go_read       (*tls.Conn).Read, where answers are told: its first instruction
 * read_go_got        the same, at each instruction that returns: no uretprobe, which Go's stacks do not bear, as they move
 *
 * Minimum kernel 5.17. Probes cannot refuse a call: what is denied stops at the socket (lib/tie.h) and at
 * the gate, which also denies a connection that no probe has seen: closed.
 */
#include <linux/bpf.h>
#include <kernel/registers.h>
#include <bpf/bpf_tracing.h>
#include <lib/tap.h>
#include <lib/tap_go.h>
#include <lib/tap_nss.h>

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("uprobe")
int BPF_KPROBE(read_tls_use, void *object)
{
	tap_use((__u64)object);
	return 0;
}

SEC("uprobe")
int BPF_KPROBE(read_tls_write, void *object, const void *bytes, long len)
{
	return tap_write((__u64)object, bytes, len, 0);
}

SEC("uprobe")
int BPF_KPROBE(read_tls_write_int, void *object, const void *bytes, int len)
{
	return tap_write((__u64)object, bytes, len, 0);
}

SEC("uprobe")
int BPF_KPROBE(read_tls_write_ex, void *object, const void *bytes, __u64 len, __u64 *written)
{
	return tap_write((__u64)object, bytes, len, written);
}

SEC("uprobe")
int BPF_KPROBE(read_tls_write_ex2, void *object, const void *bytes, __u64 len, __u64 flags, __u64 *written)
{
	return tap_write((__u64)object, bytes, len, written);
}

SEC("uretprobe")
int BPF_KRETPROBE(read_tls_wrote, long took)
{
	return tap_wrote(took);
}

SEC("uretprobe")
int BPF_KRETPROBE(read_tls_wrote_int, int took)
{
	return tap_wrote(took);
}

SEC("uprobe")
int BPF_KPROBE(read_tls_read, void *object, const void *bytes)
{
	return tap_reads(tap_key((__u64)object), bytes, 0);
}

SEC("uprobe")
int BPF_KPROBE(read_tls_read_ex, void *object, const void *bytes, __u64 len, const __u64 *got)
{
	return tap_reads(tap_key((__u64)object), bytes, got);
}

SEC("uretprobe")
int BPF_KRETPROBE(read_tls_got, long got)
{
	return tap_got(tap_key(0), got);
}

SEC("uretprobe")
int BPF_KRETPROBE(read_tls_got_int, int got)
{
	return tap_got(tap_key(0), got);
}

SEC("uprobe")
int BPF_KPROBE(read_tls_unread, void *object)
{
	struct tls_conn *conn = tap_use((__u64)object);

	if (conn)
		conn->state = TLS_DENIED;
	return 0;
}

SEC("uprobe")
int BPF_KPROBE(read_tls_again, void *object)
{
	return tap_again((__u64)object);
}

SEC("uprobe")
int BPF_KPROBE(read_tls_end, void *object)
{
	tap_end((__u64)object);
	return 0;
}

SEC("uretprobe")
int BPF_KRETPROBE(read_nss_import, void *descriptor)
{
	return nss_import((__u64)descriptor);
}

SEC("uprobe")
int BPF_KPROBE(read_nss_use, void *descriptor)
{
	return nss_use((__u64)descriptor);
}

SEC("uprobe")
int BPF_KPROBE(read_nss_write, void *object, const void *bytes, int len)
{
	return nss_write((__u64)object, bytes, len);
}

SEC("uretprobe")
int BPF_KRETPROBE(read_nss_wrote, int took)
{
	return nss_wrote(took);
}

SEC("uprobe")
int BPF_KPROBE(read_nss_send, void *object)
{
	return nss_send((__u64)object);
}

SEC("uprobe")
int read_go_start(struct pt_regs *ctx)
{
	return go_start(GO_PARM1(ctx));
}

SEC("uprobe")
int read_go_call(struct pt_regs *ctx)
{
	return go_call(GO_PARM1(ctx));
}

SEC("uprobe")
int read_go_record(struct pt_regs *ctx)
{
	return go_record(ctx);
}

SEC("uprobe")
int read_go_read(struct pt_regs *ctx)
{
	return go_reads(ctx);
}

SEC("uprobe")
int read_go_got(struct pt_regs *ctx)
{
	return go_got(ctx);
}
