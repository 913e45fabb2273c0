package judge

import (
	"slices"

	"github.com/sallyport/sallyport/probes/event"
)

// rung is how one step judges at one hook.
type rung struct {
	programs   []string // in the order they are attached
	notStopped []string // what this step does not stop at this hook
}

// hook is one kind of socket call with its rungs. A step without a rung has no hook of its own: the
// gate judges there, at the first packet.
type hook struct {
	name  string
	rungs map[event.Step]rung
}

const preempted = "on a fully pre-emptible kernel, calls of a task that pre-empts another inside the same hook (counted as recursion misses)"

const (
	traced    = "processes that reach into another label's process (ptrace, /proc/PID/mem, pidfd_getfd) and act as it"
	signalled = "governed containers that signal the agent (hostPID) or change its limits"
	opened    = "governed containers that may use bpf (CAP_BPF, CAP_SYS_ADMIN) and take the agent's maps and links, or trace it"
	untold    = "nothing by kTLS: which connections the kernel encrypts is not told"
	unrefused = "kTLS where rules.http govern: what it sends is denied at the gate, instead of the library encrypting by itself"
	handed    = "sockets of another label that are handed over: their packets are judged by who made them"
)

// hookLocal is a hook that judges nothing: it tells who asks another label over a unix socket.
const hookLocal = "unix"

// unheard is what a step without programs there means.
const unheard = "nothing on unix sockets: that a process asks another label's is not told"

// hookExec is the hook that judges nothing: LABEL learns by it which file a script is.
const hookExec = "exec"

// unscripted is what a step without a program there means.
const unscripted = "nothing by the files of scripts: rules with scripts are refused"

// hooks is the ladder: stronger steps are tried first, each hook for itself.
func hooks() []hook { return slices.Concat(socketHooks(), taskHooks()) }

// socketHooks are those of executions and of calls on sockets.
func socketHooks() []hook {
	return []hook{
		{hookExec, map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_script"}},
			event.StepModRet: {programs: []string{"judge_fentry_script"}},
			event.StepCgroup: {notStopped: []string{unscripted}},
			event.StepReport: {notStopped: []string{unscripted}},
		}},
		{"create", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_created", "judge_lsm_create"}},
			event.StepModRet: {programs: []string{"judge_fentry_created", "judge_fentry_create", "judge_modret_create"}, notStopped: []string{preempted}},
			event.StepCgroup: {programs: []string{"judge_cgroup_create"}, notStopped: []string{
				"packet sockets, whose packets the gate drops at a veth", "vsock and other families that are not IP",
			}},
			event.StepReport: {programs: []string{"judge_report_create"}, notStopped: []string{"anything: reported only"}},
		}},
		{"connect", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_connect"}},
			event.StepModRet: {programs: []string{"judge_fentry_connect", "judge_modret_connect"}, notStopped: []string{preempted}},
			event.StepCgroup: {programs: []string{"judge_cgroup_connect4", "judge_cgroup_connect6"}, notStopped: []string{
				"verdict Kill: the call is denied and the agent kills the process afterwards",
			}},
			event.StepReport: {programs: []string{"judge_report_connect", "judge_report_tcp_connect"}, notStopped: []string{"anything: reported only"}},
		}},
		{"sctp", map[event.Step]rung{
			event.StepLSM: {programs: []string{"judge_lsm_sctp_clone", "judge_lsm_sctp"}},
			event.StepModRet: {
				programs: []string{"judge_fentry_sctp_clone", "judge_fentry_sctp", "judge_modret_sctp"}, notStopped: []string{preempted},
			},
			event.StepCgroup: {notStopped: []string{"calls on SCTP sockets: what they send is denied at its first packet"}},
			event.StepReport: {programs: []string{"judge_report_sctp"}, notStopped: []string{"anything: reported only"}},
		}},
		{"sendmsg", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_sendmsg"}},
			event.StepModRet: {programs: []string{"judge_fentry_sendmsg", "judge_modret_sendmsg"}, notStopped: []string{preempted}},
			event.StepCgroup: {programs: []string{"judge_cgroup_sendmsg4", "judge_cgroup_sendmsg6"}, notStopped: []string{
				"raw, ping and connected sends as calls: denied at their first packet",
			}},
			event.StepReport: {programs: []string{"judge_report_sendmsg"}, notStopped: []string{"anything: reported only"}},
		}},
		{"bind", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_bind"}},
			event.StepModRet: {programs: []string{"judge_fentry_bind", "judge_modret_bind"}, notStopped: []string{preempted}},
			event.StepCgroup: {programs: []string{"judge_cgroup_bind4", "judge_cgroup_bind6"}},
			event.StepReport: {programs: []string{"judge_report_bind"}, notStopped: []string{"anything: reported only"}},
		}},
		{"listen", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_listen"}},
			event.StepModRet: {programs: []string{"judge_fentry_listen", "judge_modret_listen"}, notStopped: []string{preempted}},
			event.StepCgroup: {notStopped: []string{"the call on a port that the kernel chose (bound to port 0, or not bound): connections to it are denied at their first packet"}},
			event.StepReport: {programs: []string{"judge_report_listen"}, notStopped: []string{"anything: reported only"}},
		}},
		{"accept", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_accept"}},
			event.StepModRet: {programs: []string{"judge_fentry_accept", "judge_modret_accept"}, notStopped: []string{preempted}},
			event.StepCgroup: {notStopped: []string{"the call: connections are denied at their first packet"}},
			event.StepReport: {programs: []string{"judge_report_accept"}, notStopped: []string{"anything: reported only"}},
		}},
		optionHook(), ktlsHook(),
	}
}

// taskHooks are those of what processes do to each other and to the agent.
func taskHooks() []hook {
	return []hook{
		{"trace", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_trace"}},
			event.StepModRet: {programs: []string{"judge_modret_trace"}, notStopped: []string{preempted}},
			event.StepCgroup: {notStopped: []string{traced}},
			event.StepReport: {notStopped: []string{"anything: " + traced}},
		}},
		{"receive", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_receive"}},
			event.StepModRet: {programs: []string{"judge_fentry_receive", "judge_modret_receive"}, notStopped: []string{preempted}},
			event.StepCgroup: {notStopped: []string{handed}},
			event.StepReport: {notStopped: []string{"anything: " + handed}},
		}},
		{hookLocal, map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_unix_connect", "judge_lsm_unix_send"}},
			event.StepModRet: {programs: []string{"judge_fentry_unix_connect", "judge_fentry_unix_send"}},
			event.StepCgroup: {notStopped: []string{unheard}},
			event.StepReport: {notStopped: []string{unheard}},
		}},
		{"signal", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_signal", "judge_lsm_sigio", "judge_lsm_limit"}},
			event.StepModRet: {programs: []string{"judge_modret_signal", "judge_modret_sigio", "judge_modret_limit"}, notStopped: []string{preempted}},
			event.StepCgroup: {notStopped: []string{signalled}},
			event.StepReport: {notStopped: []string{"anything: " + signalled}},
		}},
		{"bpf", map[event.Step]rung{
			event.StepLSM:    {programs: []string{"judge_lsm_bpf"}},
			event.StepModRet: {programs: []string{"judge_modret_bpf"}, notStopped: []string{preempted}},
			event.StepCgroup: {notStopped: []string{opened}},
			event.StepReport: {notStopped: []string{"anything: " + opened}},
		}},
	}
}

// hookKTLS is the hook that judges nothing, and tells of the connections that the kernel encrypts.
const hookKTLS = "ktls"

// ktlsHook is apart from optionHook: nothing that is refused depends on it.
func ktlsHook() hook {
	return hook{hookKTLS, map[event.Step]rung{
		event.StepLSM:    {programs: []string{"judge_lsm_ktls"}},
		event.StepModRet: {programs: []string{"judge_fexit_ktls"}},
		event.StepCgroup: {notStopped: []string{untold}},
		event.StepReport: {notStopped: []string{untold}},
	}}
}

// optionHook keeps the kernel from encrypting what is to be read.
func optionHook() hook {
	return hook{"option", map[event.Step]rung{
		event.StepLSM:    {programs: []string{"judge_lsm_option"}},
		event.StepModRet: {programs: []string{"judge_modret_option"}, notStopped: []string{preempted}},
		event.StepCgroup: {programs: []string{"judge_cgroup_option"}},
		event.StepReport: {notStopped: []string{"anything: " + unrefused}},
	}}
}
