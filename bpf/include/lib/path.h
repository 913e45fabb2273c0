/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Paths of executables in their container: from the file up to the root of the mount namespace, and not to the
 * root directory of the task, which chroot(2) lays where its caller likes. bpf_d_path is not for tracepoints, so the
 * walk is our own, over the same links as the kernel's prepend_path().
 */
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <abi/path.h>
#include <kernel/types.h>

enum path_steps {
	PATH_STEPS = 128, /* components and mounts */
};

struct path_walk {
	struct path_buffer *buffer;
	struct dentry *dentry;
	struct mount *mount;
	__u32 pos;
	__u32 done;
};

static __always_inline struct mount *path_real_mount(struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

/* Writes the name of a dentry in front of what is there. Returns 1 when there is no room. */
static __always_inline int path_prepend(struct path_walk *walk, struct dentry *dentry, int slash)
{
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	__u32 len = BPF_CORE_READ(dentry, d_name.len) & NAME_MASK;

	if (walk->pos < len + 2)
		return 1;
	walk->pos -= len;
	bpf_probe_read_kernel(&walk->buffer->text[walk->pos & PATH_MASK], len, name);
	if (slash) {
		walk->pos--;
		walk->buffer->text[walk->pos & PATH_MASK] = '/';
	}
	return 0;
}

static long path_step(__u32 index, void *data)
{
	struct path_walk *walk = data;
	struct dentry *dentry = walk->dentry;
	struct mount *mount = walk->mount;
	struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

	if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (above == mount) {
			walk->done = 1;
			return 1;
		}
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->mount = above;
		return 0;
	}
	if (parent == dentry) {
		/* No directory holds it: a memfd or the like. It gets no slash, so no path names it. */
		walk->done = !path_prepend(walk, dentry, 0);
		return 1;
	}
	if (path_prepend(walk, dentry, 1))
		return 1;
	walk->dentry = parent;
	return 0;
}

/*
 * Writes path, seen from the root of its mount namespace, into buffer so that it ends before PATH_MIDDLE.
 * Returns where it begins, or 0 when it is too long.
 */
static __always_inline __u32 path_walk(struct path_buffer *buffer, const struct path *path)
{
	struct path_walk walk = {.buffer = buffer, .pos = PATH_MIDDLE};

	walk.dentry = BPF_CORE_READ(path, dentry);
	walk.mount = path_real_mount(BPF_CORE_READ(path, mnt));
	bpf_loop(PATH_STEPS, path_step, &walk, 0);
	if (!walk.done)
		return 0;
	if (walk.pos == PATH_MIDDLE) {
		walk.pos--;
		buffer->text[walk.pos & PATH_MASK] = '/'; /* the root itself */
	}
	return walk.pos;
}

/*
 * The same for a file, as the kernel shows it: a file that was unlinked is no longer what its path names. The text from
 * PATH_MIDDLE on is overwritten.
 */
static __always_inline __u32 path_of_file(struct path_buffer *buffer, struct file *file)
{
	struct path path = {};

	path.mnt = BPF_CORE_READ(file, f_path.mnt);
	path.dentry = BPF_CORE_READ(file, f_path.dentry);
	__builtin_memset(&buffer->text[PATH_MIDDLE], 0, 16);
	if (!BPF_CORE_READ(path.dentry, d_hash.pprev) && BPF_CORE_READ(path.dentry, d_parent) != path.dentry)
		__builtin_memcpy(&buffer->text[PATH_MIDDLE], " (deleted)", 10);
	return path_walk(buffer, &path);
}
