/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What is being executed, read into the label at sched_process_exec: the file, resolved, and for a #!
 * line the script. For tracepoints only: they run with preemption off, which the per-CPU buffer relies on.
 */
#include <bpf/bpf_core_read.h>
#include <lib/control.h>
#include <lib/drift.h>
#include <lib/path.h>
#include <abi/label.h>
#include <maps/label.h>

enum script_limits {
	SCRIPT_FILES = 2, /* of an execution: the script and the program that is its interpreter */
	UNSAFE_SHARE = 1, /* LSM_UNSAFE_SHARE: another process has the same working directory, and may change it */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct path_buffer);
} path_buffers SEC(".maps");

static __always_inline struct path_buffer *path_buffer_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&path_buffers, &zero);
}

struct dots_scan {
	const char *text;
	__u32 start; /* 1 at the start of a component */
	__u32 dots;  /* dots since then, or 3 for anything else */
	__u32 bad;
	__u32 ended;
};

static long dots_step(__u32 index, void *data)
{
	struct dots_scan *scan = data;
	char c = scan->text[index & (SCRIPT_LEN - 1)];

	if (c == '/' || !c) {
		/* Empty, "." and ".." components: the text is not the canonical path. */
		if (scan->dots <= 2)
			scan->bad = 1;
		scan->dots = 0;
	} else if (c == '.' && scan->dots < 3) {
		scan->dots++;
	} else {
		scan->dots = 3;
	}
	if (!c) {
		scan->ended = 1;
		return 1;
	}
	return 0;
}

/*
 * The name of a #! script. The kernel has closed its file by now, but this name is what its interpreter opens: absolute
 * as given, or joined to the working directory. A name with ".", ".." or empty components is not taken, nor one in
 * a directory that somebody else may change (LABEL_TRUNCATED: matches no Allow rule, every Deny rule).
 */
static __always_inline void read_script(struct label *label, struct path_buffer *buffer,
					struct task_struct *task, struct linux_binprm *bprm)
{
	const char *filename = BPF_CORE_READ(bprm, filename);
	char *given = &buffer->text[PATH_MIDDLE + 1];
	struct dots_scan scan = {.text = given};
	__u32 begin = PATH_MIDDLE + 1;
	char head[2] = {};
	long len;

	bpf_probe_read_kernel(head, sizeof(head), filename);
	if (head[0] == '.' && head[1] == '/')
		filename += 2;
	len = bpf_probe_read_kernel_str(given, SCRIPT_LEN, filename);
	if (len <= 1 || len >= SCRIPT_LEN)
		goto unknown;
	if (head[0] == '/')
		scan.dots = 3; /* what is before the leading slash is no empty component */
	bpf_loop(SCRIPT_LEN, dots_step, &scan, 0);
	if (scan.bad || !scan.ended)
		goto unknown;
	if (head[0] != '/') {
		struct path pwd = {};

		if (BPF_CORE_READ(bprm, unsafe) & UNSAFE_SHARE)
			goto unknown;
		pwd.mnt = BPF_CORE_READ(task, fs, pwd.mnt);
		pwd.dentry = BPF_CORE_READ(task, fs, pwd.dentry);
		begin = path_walk(buffer, &pwd);
		if (!begin)
			goto unknown;
		/* The root directory ends in its slash already. */
		if (begin == PATH_MIDDLE - 1)
			begin = PATH_MIDDLE;
		buffer->text[PATH_MIDDLE] = '/';
	}
	if (PATH_MIDDLE + 1 - begin + len > SCRIPT_LEN)
		goto unknown;
	bpf_probe_read_kernel_str(label->script, SCRIPT_LEN, &buffer->text[begin & PATH_MASK]);
	return;
unknown:
	label->flags |= LABEL_TRUNCATED;
}

/*
 * Whether a file is one of the mounts that its container was started with, in the namespace that these are in. Who may
 * mount can lay a file over any path in a namespace of its own, or mount one nowhere: there a path says nothing. Neither is
 * asked of the node's processes and units, nor of a file that no path names. What is mounted in the container's own namespace
 * later is taken for its own. Of a container that is not listed nobody knows the namespace: closed.
 */
static __always_inline int of_container(const struct label *label, struct file *file)
{
	__u64 container = label->container;
	struct dentry *dentry;
	struct mount *mount;
	__u32 *mntns;

	if (label->origin == ORIGIN_HOST || label->flags & LABEL_UNIT)
		return 1;
	if (label->flags & LABEL_UNLISTED)
		return 0;
	mntns = bpf_map_lookup_elem(&mntns_by_container, &container);
	if (!mntns)
		return 1; /* open: not known */
	dentry = BPF_CORE_READ(file, f_path.dentry);
	if (BPF_CORE_READ(dentry, d_parent) == dentry)
		return 1; /* a memfd or the like */
	mount = path_real_mount(BPF_CORE_READ(file, f_path.mnt));
	/* Mounted nowhere reads as 0. */
	return BPF_CORE_READ(mount, mnt_ns, ns.inum) == *mntns;
}

/*
 * Reads the path of an executable into the label, and that there is no script. Returns the buffer, or NULL where the path
 * cannot be read, which fails closed: LABEL_TRUNCATED.
 */
static __always_inline struct path_buffer *read_exe(struct label *label, struct file *file)
{
	struct path_buffer *buffer = path_buffer_get();
	__u32 begin = 0;
	long len;

	label->flags &= ~(LABEL_TRUNCATED | LABEL_SCRIPTLESS | LABEL_DRIFTED);
	__builtin_memset(label->exe, 0, sizeof(label->exe));
	__builtin_memset(label->script, 0, sizeof(label->script));
	if (buffer && file)
		begin = path_of_file(buffer, file);
	if (!begin) {
		count_error(SITE_PATH);
		label->flags |= LABEL_TRUNCATED;
		return 0;
	}
	if (file_drifted(file))
		label->flags |= LABEL_DRIFTED;
	len = bpf_probe_read_kernel_str(label->exe, EXE_LEN, &buffer->text[begin & PATH_MASK]);
	if (len < 0 || (len == EXE_LEN && PATH_MIDDLE - begin >= EXE_LEN) || !of_container(label, file))
		label->flags |= LABEL_TRUNCATED;
	return buffer;
}

/*
 * Whether the name in the label is the path of the script's file, as script_seen() has found it before the kernel closed
 * it: then no symbolic link leads to it, through which who may change links would have the interpreter read another
 * file. Nobody saw the file, or it names an interpreter that is a script itself: not known (closed).
 */
static __always_inline int script_known(const struct label *label, const struct script *script, struct linux_binprm *bprm)
{
	const __u64 *name = (const void *)label->script;
	int i, known;

	if (!script)
		return 0;
	known = script->bprm == (__u64)bprm && script->files == SCRIPT_FILES && script->path[0];
	for (i = 0; i < SCRIPT_LEN / 8; i++)
		known &= script->path[i] == name[i];
	return known;
}

/* Reads what is being executed into the label. What cannot be read fails closed: LABEL_TRUNCATED. */
static __always_inline void read_binary(struct label *label, struct task_struct *task,
					struct linux_binprm *bprm)
{
	struct path_buffer *buffer = read_exe(label, BPF_CORE_READ(bprm, file));
	const char *filename = BPF_CORE_READ(bprm, filename);
	struct script *script;

	if (!buffer || BPF_CORE_READ(bprm, interp) == filename)
		return;
	read_script(label, buffer, task, bprm);
	/* A name may lead through links: to rules that name scripts the file is not known then (closed). */
	script = bpf_task_storage_get(&script_by_task, task, 0, 0);
	if (!script_known(label, script, bprm))
		label->flags |= LABEL_SCRIPTLESS;
	if (script && script->bprm == (__u64)bprm && script->drifted)
		label->flags |= LABEL_DRIFTED;
	bpf_task_storage_delete(&script_by_task, task);
}
