// Writes events of 48 bytes as fast as it can; counts; and a map to look things up in.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event { __u32 pid; __u32 n; __u64 at; __u64 sent; __u64 received; char comm[16]; };
const struct event *events_event;
__u64 events_lost, hits;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 22); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 65536);
	 __type(key, __u32); __type(value, __u64); } table SEC(".maps");

static long emit(__u32 n, void *context)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&events_lost, 1);
		return 0;
	}
	e->pid = 1234;
	e->n = n;
	e->at = 1000000000000 + n;
	e->sent = n * 3;
	e->received = n * 5;
	__builtin_memcpy(e->comm, "worker\0\0\0\0\0\0\0\0\0", 16);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("xdp") int burst(struct xdp_md *ctx) { bpf_loop(60000, emit, 0, 0); return XDP_PASS; }
SEC("cgroup_skb/egress") int count(struct __sk_buff *skb) { hits++; return 1; }
char LICENSE[] SEC("license") = "GPL";
