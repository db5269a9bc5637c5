// System calls by number, of all processes or of one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 only; // 0: all processes
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 512);
	 __type(key, __u32); __type(value, __u64); } calls SEC(".maps");

SEC("raw_tp/sys_enter") int enter(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 number = ctx->args[1];
	if (only && bpf_get_current_pid_tgid() >> 32 != only)
		return 0;
	__u64 *count = bpf_map_lookup_elem(&calls, &number);
	if (count)
		(*count)++;
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
