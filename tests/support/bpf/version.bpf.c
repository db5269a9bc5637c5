// One tool in versions: -DVERSION=1, 2 (same layout), 3 (longer values), 4 (another section layout)
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#ifndef VERSION
#define VERSION 1
#endif
struct stats {
	__u64 packets;
#if VERSION == 3
	__u32 extra;
	__u32 pad;
#endif
	__u64 bytes;
};
const volatile __u32 threshold = 7;
#if VERSION == 4
__u64 added;
__u32 moved = 4;
#endif
__u64 packets;
__u64 by_version[4];
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64);
	 __type(key, __u32); __type(value, struct stats); } table SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");

SEC("cgroup_skb/egress") int count(struct __sk_buff *skb)
{
	__u32 key = threshold;
	struct stats zero = {}, *s;
	__sync_fetch_and_add(&packets, 1);
	__sync_fetch_and_add(&by_version[VERSION & 1], 1);
	bpf_map_update_elem(&table, &key, &zero, BPF_NOEXIST);
	s = bpf_map_lookup_elem(&table, &key);
	if (s) {
		__sync_fetch_and_add(&s->packets, 1);
		__sync_fetch_and_add(&s->bytes, skb->len);
	}
	return 1;
}
SEC("raw_tp/sys_enter") int raw(void *ctx) { return 0; }
#if VERSION != 2
SEC("?cgroup_skb/ingress") int gone(struct __sk_buff *skb) { return 1; }
#endif
char LICENSE[] SEC("license") = "GPL";
