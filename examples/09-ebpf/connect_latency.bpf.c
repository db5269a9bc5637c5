// How long TCP connections take to be established, by process: from SYN sent to established.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

// Only what is read, with the names of the kernel's members: CO-RE finds them.
struct sock_common { __be16 skc_dport; __u16 skc_family; } __attribute__((preserve_access_index));
struct sock { struct sock_common __sk_common; } __attribute__((preserve_access_index));

enum { ESTABLISHED = 1, SYN_SENT = 2 };
struct start { __u64 at; __u32 pid; char comm[16]; };
struct event { __u64 micros; __u32 pid; __u16 port; __u16 established; char comm[16]; };
const struct event *events_event;
__u64 events_lost;

struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 16384);
	 __type(key, __u64); __type(value, struct start); } starts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); } events SEC(".maps");

SEC("raw_tp/inet_sock_set_state") int changed(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int from = ctx->args[1], to = ctx->args[2];
	__u64 key = ctx->args[0];

	if (to == SYN_SENT) { // in the process that connects
		struct start start = { .at = bpf_ktime_get_ns(), .pid = bpf_get_current_pid_tgid() >> 32 };
		bpf_get_current_comm(start.comm, sizeof(start.comm));
		bpf_map_update_elem(&starts, &key, &start, BPF_ANY);
		return 0;
	}
	if (from != SYN_SENT)
		return 0;
	struct start *start = bpf_map_lookup_elem(&starts, &key);
	if (!start)
		return 0;
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e) {
		e->micros = (bpf_ktime_get_ns() - start->at) / 1000;
		e->pid = start->pid;
		e->port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
		e->established = to == ESTABLISHED;
		__builtin_memcpy(e->comm, start->comm, sizeof(e->comm));
		bpf_ringbuf_submit(e, 0);
	} else {
		__sync_fetch_and_add(&events_lost, 1);
	}
	bpf_map_delete_elem(&starts, &key);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
