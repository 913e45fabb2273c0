// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * No programs: every pinned map, and one instance of every struct that user space reads, so that
 * their types are in the BTF that bpf2go makes Go from.
 */
#include <linux/bpf.h>
#include <abi/event.h>
#include <abi/flaw.h>
#include <abi/policy.h>
#include <abi/state.h>
#include <maps/control.h>
#include <maps/detail.h>
#include <maps/flow.h>
#include <maps/label.h>
#include <maps/probe.h>
#include <maps/names.h>
#include <maps/protect.h>
#include <maps/requests.h>
#include <maps/tables.h>
#include <maps/taps.h>
#include <maps/tell.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct ev_exec abi_ev_exec;
struct ev_exit abi_ev_exit;
struct ev_call abi_ev_call;
struct ev_cgroup abi_ev_cgroup;
struct ev_borrow abi_ev_borrow;
struct ev_tamper abi_ev_tamper;
struct ev_dns abi_ev_dns;
struct ev_request abi_ev_request;
struct header_names abi_header_names;
struct ev_ktls abi_ev_ktls;
struct ev_response abi_ev_response;
struct sweep abi_sweep;
struct ruleset abi_ruleset;
struct rule abi_rule;
struct address_key abi_address_key;
struct peer_key abi_peer_key;
struct port_key abi_port_key;
struct id_key abi_id_key;
struct inferred abi_inferred;
struct probe_key abi_probe_key;
struct probe abi_probe;
struct frag_key abi_frag_key;

enum limits abi_limits;
enum ev_texts abi_ev_texts;
enum detail_limits abi_detail_limits;
enum hello_flags abi_hello_flags;
enum origin abi_origin;
enum label_flags abi_label_flags;
enum id_places abi_id_places;
enum id_kinds abi_id_kinds;
enum id_limits abi_id_limits;
enum probe_limits abi_probe_limits;
enum verdict abi_verdict;
enum control_flags abi_control_flags;
enum container_flags abi_container_flags;
enum ruleset_flags abi_ruleset_flags;
enum flow_state abi_flow_state;
enum name_limits abi_name_limits;
enum ev_kind abi_ev_kind;
enum ktls_part abi_ktls_part;
enum call abi_call;
enum step abi_step;
enum reason abi_reason;
enum site abi_site;
enum flaw abi_flaw;
enum tls_state abi_tls_state;
