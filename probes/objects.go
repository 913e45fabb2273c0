package probes

import (
	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// Object is one committed object file of kernel programs.
type Object struct {
	Name string // of its source: bpf/progs/NAME.bpf.c
	Load func() (*ebpf.CollectionSpec, error)
}

// Objects lists every object that is built for this architecture, those that enforce first. It is
// what the load gate loads, program by program, on every kernel of the matrix.
func Objects() []Object {
	return []Object{
		{"judge_lsm", bpfobj.LoadJudgeLSM},
		{"judge_modret", bpfobj.LoadJudgeModRet},
		{"judge_cgroup", bpfobj.LoadJudgeCgroup},
		{"gate_skb", bpfobj.LoadGateSKB},
		{"gate_tc", bpfobj.LoadGateTC},
		{"read_tls", bpfobj.LoadReadTLS},
		{"names_sweep", bpfobj.LoadNamesSweep},
		{"label_task", bpfobj.LoadLabelTask},
		{"label_scan", bpfobj.LoadLabelScan},
		{"judge_report", bpfobj.LoadJudgeReport},
		{"abi", bpfobj.LoadABI},
	}
}
