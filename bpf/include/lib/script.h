/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * LABEL, the files of scripts: for LSM and fentry programs on security_bprm_check, which the kernel calls for every file
 * that an execution looks at. The first is the script, whose file the kernel has closed at sched_process_exec; the last is
 * the program. Nothing is decided here: script_known() compares, when the execution has succeeded.
 */
#include <bpf/bpf_core_read.h>
#include <lib/control.h>
#include <lib/drift.h>
#include <lib/path.h>
#include <maps/label.h>

/* Whether what a task executes gets a label: it has one, or is one of the node inside a governed network namespace. */
static __always_inline int script_matters(struct task_struct *task)
{
	__u64 cookie = BPF_CORE_READ(task, nsproxy, net_ns, net_cookie);

	return bpf_task_storage_get(&label_by_task, task, 0, 0) || bpf_map_lookup_elem(&netns_by_cookie, &cookie);
}

/* The first file of an execution: its path is kept if it begins as a script. */
static __always_inline void script_begin(struct task_struct *task, struct linux_binprm *bprm)
{
	struct script *script = bpf_task_storage_get(&script_by_task, task, 0, 0);
	char head[2] = {};
	__u32 begin;
	long len;

	if (script)
		script->bprm = 0; /* of an execution that failed */
	bpf_core_read(head, sizeof(head), &bprm->buf);
	if (head[0] != '#' || head[1] != '!' || !script_matters(task))
		return;
	if (!script)
		script = bpf_task_storage_get(&script_by_task, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!script) {
		count_error(SITE_LABEL_STORAGE); /* no memory: the file is not known (closed) */
		return;
	}
	script->bprm = (__u64)bprm;
	script->files = 1;
	script->drifted = file_drifted(bprm->file);
	__builtin_memset(script->path, 0, sizeof(script->path));
	begin = path_of_file(&script->walk, bprm->file);
	if (!begin)
		return; /* too long: the same */
	len = bpf_probe_read_kernel_str(script->path, SCRIPT_LEN, &script->walk.text[begin & PATH_MASK]);
	if (len < 0 || (len == SCRIPT_LEN && PATH_MIDDLE - begin >= SCRIPT_LEN))
		script->path[0] = 0;
}

/* security_bprm_check: the calling task is about to execute bprm->file, or to find out who interprets it. */
static __always_inline void script_seen(struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct script *script;

	if (bprm->interp == bprm->filename) {
		script_begin(task, bprm);
		return;
	}
	script = bpf_task_storage_get(&script_by_task, task, 0, 0);
	if (script && script->bprm == (__u64)bprm)
		script->files++;
}
