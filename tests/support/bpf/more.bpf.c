// Map types that basics.bpf.c has not, the way their users declare them.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct state { __u64 calls; __u32 flags; };
#define PLAIN(name, kind, entries) \
	struct { __uint(type, kind); __uint(max_entries, entries); \
		 __uint(key_size, 4); __uint(value_size, 4); } name SEC(".maps")

PLAIN(sockets, BPF_MAP_TYPE_SOCKMAP, 4);
PLAIN(groups, BPF_MAP_TYPE_CGROUP_ARRAY, 4);
PLAIN(xsk, BPF_MAP_TYPE_XSKMAP, 4);
PLAIN(devices_by_key, BPF_MAP_TYPE_DEVMAP_HASH, 4);
struct { __uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY); __uint(max_entries, 4);
	 __type(key, __u32); __type(value, __u64); } listeners SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	 __type(key, struct bpf_cgroup_storage_key); __type(value, struct state); } of_group SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE);
	 __type(key, struct bpf_cgroup_storage_key); __type(value, struct state); } of_group_cpu SEC(".maps");
#define STORAGE(name, kind) \
	struct { __uint(type, kind); __uint(map_flags, BPF_F_NO_PREALLOC); \
		 __type(key, int); __type(value, struct state); } name SEC(".maps")
STORAGE(of_task, BPF_MAP_TYPE_TASK_STORAGE);
STORAGE(of_inode, BPF_MAP_TYPE_INODE_STORAGE);
STORAGE(of_cgroup, 32 /* cgrp_storage, newer than the headers */);

SEC("cgroup_skb/egress") int count(struct __sk_buff *skb)
{
	struct state *own = bpf_get_local_storage(&of_group, 0);
	struct state *cpu = bpf_get_local_storage(&of_group_cpu, 0);
	__sync_fetch_and_add(&own->calls, 1);
	cpu->calls++;
	return 1;
}
char LICENSE[] SEC("license") = "GPL";
