// Bytes and packets that leave, by cgroup.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct traffic { __u64 bytes; __u64 packets; };
struct { __uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH); __uint(max_entries, 4096);
	 __type(key, __u64); __type(value, struct traffic); } by_cgroup SEC(".maps");

SEC("cgroup_skb/egress") int count(struct __sk_buff *skb)
{
	__u64 id = bpf_skb_cgroup_id(skb);
	struct traffic first = { .bytes = skb->len, .packets = 1 };
	struct traffic *seen = bpf_map_lookup_elem(&by_cgroup, &id);
	if (seen) {
		seen->bytes += skb->len;
		seen->packets++;
	} else {
		bpf_map_update_elem(&by_cgroup, &id, &first, BPF_ANY);
	}
	return 1; // let it pass
}
char LICENSE[] SEC("license") = "GPL";
