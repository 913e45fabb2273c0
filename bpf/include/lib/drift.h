/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Whether a file that is executed is of its container's image, or was written since the container was made: then it is in the
 * upper layer of an overlay, or in memory. Nothing is decided by that, it is told. Not known, and so not told, are files on volumes,
 * and all of containers whose root is no overlay; a file that only got another owner or mode counts as written.
 */
#include <bpf/bpf_core_read.h>
#include <kernel/types.h>

enum drift_facts {
	OVERLAY_MAGIC = 0x794c7630, /* OVERLAYFS_SUPER_MAGIC */
};

/* The file in the upper layer stands right behind the inode in struct ovl_inode (5.17 to 7.3); the BTF of the module is not read. */
static __always_inline int file_drifted(struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry), *upper = 0;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);

	if (BPF_CORE_READ(dentry, d_parent) == dentry)
		return 1; /* a memfd or the like */
	if (!inode || BPF_CORE_READ(dentry, d_sb, s_magic) != OVERLAY_MAGIC)
		return 0;
	if (bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode)) || !upper)
		return 0;
	return BPF_CORE_READ(upper, d_inode) != 0; /* 0 also where the kernel has something else there */
}
