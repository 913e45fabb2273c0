/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Registers at a kprobe, which bpf_tracing.h reads arguments from. The layout is user-space ABI of
 * the architecture (Linux 6.1: arch/x86/include/uapi/asm/ptrace.h, arch/arm64/include/uapi/asm/ptrace.h),
 * written here so that one machine builds for both.
 */
#include <linux/types.h>

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
	unsigned long rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss;
};

/*
 * Where Go passes the running goroutine and the first four words of arguments; a slice is three, a string two.
 * Go 1.17 to 1.26, src/cmd/compile/abi-internal.md.
 */
#define GO_ROUTINE(ctx) ((ctx)->r14)
#define GO_PARM1(ctx)	((ctx)->rax)
#define GO_PARM2(ctx)	((ctx)->rbx)
#define GO_PARM3(ctx)	((ctx)->rcx)
#define GO_PARM4(ctx)	((ctx)->rdi)
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};
struct pt_regs;

/* The same on arm64, where nothing of it has run yet. */
#define GO_REG(ctx, n)	(((const struct user_pt_regs *)(ctx))->regs[n])
#define GO_ROUTINE(ctx) GO_REG(ctx, 28)
#define GO_PARM1(ctx)	GO_REG(ctx, 0)
#define GO_PARM2(ctx)	GO_REG(ctx, 1)
#define GO_PARM3(ctx)	GO_REG(ctx, 2)
#define GO_PARM4(ctx)	GO_REG(ctx, 3)
#endif

/* Where a Go function returns: the first word of its results. */
#define GO_RESULT1(ctx) GO_PARM1(ctx)
