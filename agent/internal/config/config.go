// Package config owns the agent's configuration: its shape, its defaults, where it is read from
// and what makes a value wrong.
//
// It is the only package that knows viper, and it imports nothing else of this module. What it
// hands out are plain values: a component gets its own part of Config and cannot see the rest.
package config

import (
	"time"
)

// DefaultFile is read when no file is named and it exists.
const DefaultFile = "/etc/sallyport/config.yaml"

// Config is the whole configuration. config.yaml at the root of the project documents every key.
type Config struct {
	Policies    Policies    `mapstructure:"policies"`
	Enforcement Enforcement `mapstructure:"enforcement"`
	Protect     Protect     `mapstructure:"protect"`
	Kernel      Kernel      `mapstructure:"kernel"`
	Runtime     Runtime     `mapstructure:"runtime"`
	Kube        Kube        `mapstructure:"kube"`
	Webhook     Webhook     `mapstructure:"webhook"`
	Gate        Gate        `mapstructure:"gate"`
	Names       Names       `mapstructure:"names"`
	Alerts      Alerts      `mapstructure:"alerts"`
	Visibility  Visibility  `mapstructure:"visibility"`
	API         API         `mapstructure:"api"`
	Metrics     Metrics     `mapstructure:"metrics"`
	Log         Log         `mapstructure:"log"`
}

// Policies says where policies come from.
type Policies struct {
	Dir string `mapstructure:"dir"` // watched; absolute
}

// Enforcement says how the kernel may stop a call.
type Enforcement struct {
	Steps           []Step          `mapstructure:"steps"` // of the ladder that may be used, strongest first
	UnknownWorkload UnknownWorkload `mapstructure:"unknownWorkload"`
	Borrowing       Borrowing       `mapstructure:"borrowing"`
	Fronting        Fronting        `mapstructure:"fronting"`
	Relaying        Relaying        `mapstructure:"relaying"`
}

// Step is one rung of the enforcement ladder.
type Step string

// The steps, strongest first.
const (
	StepLSM    Step = "lsm"      // BPF LSM
	StepModRet Step = "fmod_ret" // on security_* functions
	StepCgroup Step = "cgroup"   // cgroup socket programs
	StepReport Step = "report"   // kprobe or fentry: tells, stops nothing
)

// UnknownWorkload is what a container may do that the kernel saw before user space could tell
// whose it is.
type UnknownWorkload string

// What an unknown workload may do.
const (
	UnknownAllow UnknownWorkload = "allow"
	UnknownDeny  UnknownWorkload = "deny"
)

// Borrowing is what becomes of a process that reaches for another label, into its process or for its
// socket, where a rule governs either.
type Borrowing string

// The choices.
const (
	BorrowRefuse Borrowing = "refuse"
	BorrowAudit  Borrowing = "audit" // tell it, and let it be
	BorrowAllow  Borrowing = "allow"
)

// Relaying is what becomes of a process that asks another label's over a unix socket, where a rule governs it.
type Relaying string

// The choices.
const (
	RelayAudit Relaying = "audit" // tell it, and let it be
	RelayAllow Relaying = "allow"
)

// Fronting is what becomes of a request or ClientHello that asks for another site than its connection was made for.
type Fronting string

// The choices.
const (
	FrontDeny  Fronting = "deny"
	FrontAudit Fronting = "audit" // tell it, and let it be
	FrontAllow Fronting = "allow"
)

// Kernel says where the agent's kernel objects live and how large they are.
type Kernel struct {
	BPFFS      string `mapstructure:"bpffs"`      // mount point of the BPF file system
	PinDir     string `mapstructure:"pinDir"`     // folder below BPFFS
	CgroupRoot string `mapstructure:"cgroupRoot"` // mount point of the cgroup v2 hierarchy, or CgroupAuto
	Maps       Maps   `mapstructure:"maps"`
}

// CgroupAuto finds the cgroup v2 hierarchy in the mount table.
const CgroupAuto = "auto"

// Maps is the sizes of the kernel maps that do not follow from the policies.
type Maps struct {
	Flows           int `mapstructure:"flows"`           // entries
	Containers      int `mapstructure:"containers"`      // entries
	AlertsRingBytes int `mapstructure:"alertsRingBytes"` // a power of two
	FlowsRingBytes  int `mapstructure:"flowsRingBytes"`  // a power of two
}

// Runtime says which container runtimes name the containers.
type Runtime struct {
	Containerd       Containerd `mapstructure:"containerd"`
	NRI              NRI        `mapstructure:"nri"`
	ContainerParents []string   `mapstructure:"containerParents"` // cgroups whose children are containers
}

// Containerd is the connection to containerd.
type Containerd struct {
	Enabled      bool          `mapstructure:"enabled"`
	Socket       string        `mapstructure:"socket"`
	Namespaces   []string      `mapstructure:"namespaces"` // empty: all
	ReconnectMin time.Duration `mapstructure:"reconnectMin"`
	ReconnectMax time.Duration `mapstructure:"reconnectMax"`
}

// NRI is the plugin that a runtime calls before it starts a container.
type NRI struct {
	Enabled   Presence      `mapstructure:"enabled"`
	Socket    string        `mapstructure:"socket"`
	Timeout   time.Duration `mapstructure:"timeout"` // for one container's policies to come into force
	OnTimeout OnTimeout     `mapstructure:"onTimeout"`
}

// Presence is whether a part is used.
type Presence string

// The presences.
const (
	PresenceAuto   Presence = "auto"   // if it is there
	PresenceAlways Presence = "always" // and it is told while it is not there
	PresenceNever  Presence = "never"
)

// OnTimeout is what becomes of a container whose policies are not in force in time.
type OnTimeout string

// What becomes of it.
const (
	OnTimeoutAdmit  OnTimeout = "admit"  // it starts; unknownWorkload decides until the policies are there
	OnTimeoutRefuse OnTimeout = "refuse" // it does not start
)

// Kube is the API of a Kubernetes cluster.
type Kube struct {
	Enabled    Presence      `mapstructure:"enabled"`
	Kubeconfig string        `mapstructure:"kubeconfig"` // absolute; empty: the pod's own service account
	NodeName   string        `mapstructure:"nodeName"`   // empty: the host's name
	StaleAfter time.Duration `mapstructure:"staleAfter"` // how long the API may be away before that is told

	NetworkPolicies bool `mapstructure:"networkPolicies"` // read Kubernetes' own
	CiliumPolicies  bool `mapstructure:"ciliumPolicies"`  // read Cilium's, where the API has them
	WriteStatus     bool `mapstructure:"writeStatus"`     // into policies of Sallyport's kinds

	StartupTaint   string `mapstructure:"startupTaint"`   // key of a taint that the node loses when policies are in force; empty: none
	CallsNamespace string `mapstructure:"callsNamespace"` // where the webhook tells of calls into pods; empty: nowhere
}

// Webhook is what a cluster's API asks, in a process of its own.
type Webhook struct {
	Address       string `mapstructure:"address"` // host:port
	Cert          string `mapstructure:"cert"`    // PEM files, absolute; read again when they change
	Key           string `mapstructure:"key"`
	RequirePolicy bool   `mapstructure:"requirePolicy"` // refuse calls into pods that no policy selects
}

// Protect says how the agent looks after itself.
type Protect struct {
	Repair bool   `mapstructure:"repair"` // put back what somebody takes away or changes of what enforces
	Access Access `mapstructure:"access"`
}

// Access is what becomes of governed containers that reach for the agent.
type Access string

// What becomes of them.
const (
	AccessRefuse Access = "refuse"
	AccessAudit  Access = "audit"
	AccessAllow  Access = "allow"
)

// Gate is the packet gate at the pods' interfaces.
type Gate struct {
	Enabled bool `mapstructure:"enabled"`
}

// Names says how the addresses are remembered that DNS tells a container for a name.
type Names struct {
	LeastTTL     time.Duration `mapstructure:"leastTTL"`
	PerContainer int           `mapstructure:"perContainer"` // addresses, and names
	Tunnel       Tunnel        `mapstructure:"tunnel"`
}

// Tunnel says what is told as a DNS tunnel.
type Tunnel struct {
	Names   int           `mapstructure:"names"`   // below one domain, within Window; 0: nothing
	Entropy int           `mapstructure:"entropy"` // bits a character of them on average, at least
	Window  time.Duration `mapstructure:"window"`
	Except  []string      `mapstructure:"except"` // domains below which any may be asked for
}

// Alerts says where alerts go.
type Alerts struct {
	JSONL  JSONL  `mapstructure:"jsonl"`
	Syslog Syslog `mapstructure:"syslog"`
	Queue  int    `mapstructure:"queue"` // records that wait for each sink
}

// JSONL is the sink that writes JSON lines.
type JSONL struct {
	Enabled    bool   `mapstructure:"enabled"`
	Path       string `mapstructure:"path"` // absolute, or PathStdout
	MaxSizeMB  int    `mapstructure:"maxSizeMB"`
	MaxBackups int    `mapstructure:"maxBackups"`
	MaxAgeDays int    `mapstructure:"maxAgeDays"`
}

// PathStdout writes to standard output.
const PathStdout = "-"

// Syslog is the RFC 5424 sink.
type Syslog struct {
	Enabled      bool    `mapstructure:"enabled"`
	Network      Network `mapstructure:"network"`
	Address      string  `mapstructure:"address"` // path of a socket, or host:port
	Facility     string  `mapstructure:"facility"`
	AppName      string  `mapstructure:"appName"`
	EnterpriseID int     `mapstructure:"enterpriseID"`
	TLS          TLS     `mapstructure:"tls"`
}

// Network is how syslog messages travel.
type Network string

// The networks.
const (
	NetworkUnix Network = "unix"
	NetworkUDP  Network = "udp"
	NetworkTCP  Network = "tcp"
	NetworkTLS  Network = "tls"
)

// TLS names the files of a TLS client. Empty means the system's authorities, no client
// certificate, and the name in the address.
type TLS struct {
	CA         string `mapstructure:"ca"`
	Cert       string `mapstructure:"cert"`
	Key        string `mapstructure:"key"`
	ServerName string `mapstructure:"serverName"`
}

// Visibility says which allowed things are told too, and what of requests. What is denied always is told.
type Visibility struct {
	Exec    bool     `mapstructure:"exec"`
	Connect bool     `mapstructure:"connect"`
	Query   bool     `mapstructure:"query"`   // of a request's target
	Headers []string `mapstructure:"headers"` // of requests, names in lower case
}

// API is the local gRPC server.
type API struct {
	Socket string `mapstructure:"socket"`
}

// Metrics is the Prometheus endpoint.
type Metrics struct {
	Address string `mapstructure:"address"` // host:port; empty: off
}

// Log is the agent's own log; alerts are not part of it.
type Log struct {
	Level  Level  `mapstructure:"level"`
	Format Format `mapstructure:"format"`
}

// Level is the least important level that is logged.
type Level string

// The levels.
const (
	LevelError Level = "error" // somebody must act
	LevelWarn  Level = "warn"  // degraded, and still running
	LevelInfo  Level = "info"  // changes of state
	LevelDebug Level = "debug" // single events
)

// Format is the form of the log.
type Format string

// The formats.
const (
	FormatAuto Format = "auto" // text on a terminal, else JSON
	FormatText Format = "text"
	FormatJSON Format = "json"
)

// Default returns the configuration of an agent that nobody configured: everything that needs no
// peer and no decision of an operator is on.
func Default() Config {
	return Config{
		Policies:    Policies{Dir: "/etc/sallyport/policies"},
		Enforcement: Enforcement{Steps: ladder(), UnknownWorkload: UnknownAllow, Borrowing: BorrowRefuse, Fronting: FrontAudit, Relaying: RelayAudit},
		Protect:     Protect{Repair: true, Access: AccessRefuse},
		Kernel: Kernel{
			BPFFS: "/sys/fs/bpf", PinDir: "sallyport", CgroupRoot: CgroupAuto,
			Maps: Maps{Flows: 262144, Containers: 16384, AlertsRingBytes: 1 << 20, FlowsRingBytes: 4 << 20},
		},
		Runtime: Runtime{
			Containerd: Containerd{
				Enabled: true, Socket: "/run/containerd/containerd.sock", Namespaces: []string{},
				ReconnectMin: 100 * time.Millisecond, ReconnectMax: 10 * time.Second,
			},
			NRI: NRI{
				Enabled: PresenceAuto, Socket: "/var/run/nri/nri.sock", Timeout: 1500 * time.Millisecond, OnTimeout: OnTimeoutAdmit,
			},
			ContainerParents: []string{"/default", "/k8s.io", "/moby"},
		},
		Kube:    Kube{Enabled: PresenceAuto, StaleAfter: 30 * time.Second, NetworkPolicies: true, WriteStatus: true},
		Webhook: Webhook{Address: ":8443", Cert: "/etc/sallyport/webhook/tls.crt", Key: "/etc/sallyport/webhook/tls.key"},
		Gate:    Gate{Enabled: true},
		Names: Names{
			LeastTTL: 30 * time.Second, PerContainer: 4096,
			Tunnel: Tunnel{Names: 100, Entropy: 3, Window: 10 * time.Minute, Except: []string{"cluster.local", "in-addr.arpa", "ip6.arpa"}},
		},
		Alerts: Alerts{
			JSONL: JSONL{Enabled: true, Path: "/var/log/sallyport/alerts.jsonl", MaxSizeMB: 100, MaxBackups: 5, MaxAgeDays: 30},
			Syslog: Syslog{
				Network: NetworkUnix, Address: "/dev/log", Facility: "daemon", AppName: "sallyport",
				EnterpriseID: 32473,
			},
			Queue: 8192,
		},
		Visibility: Visibility{Exec: true, Connect: true, Headers: []string{}},
		API:        API{Socket: "/run/sallyport/sallyport.sock"},
		Log:        Log{Level: LevelInfo, Format: FormatAuto},
	}
}

// ladder lists the steps, strongest first.
func ladder() []Step { return []Step{StepLSM, StepModRet, StepCgroup, StepReport} }
