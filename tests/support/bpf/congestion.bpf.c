// A congestion control of TCP: struct_ops, the kind of program that implements a table of functions.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock {} __attribute__((preserve_access_index));
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	char name[16];
} __attribute__((preserve_access_index));

#ifndef NAME
#define NAME "hastack_steady"
#endif
#ifndef WINDOW
#define WINDOW 10
#endif
#ifndef TABLE
#define TABLE ".struct_ops"
#endif
__u64 asked;
SEC("struct_ops/steady_ssthresh") __u32 BPF_PROG(steady_ssthresh, struct sock *sk) { return WINDOW; }
SEC("struct_ops/steady_undo") __u32 BPF_PROG(steady_undo, struct sock *sk) { return WINDOW; }
SEC("struct_ops/steady_avoid") void BPF_PROG(steady_avoid, struct sock *sk, __u32 ack, __u32 acked)
{
	__sync_fetch_and_add(&asked, WINDOW);
}

SEC(TABLE) struct tcp_congestion_ops steady = {
	.ssthresh = (void *)steady_ssthresh,
#ifndef INCOMPLETE
	.undo_cwnd = (void *)steady_undo,
#endif
	.cong_avoid = (void *)steady_avoid,
	.name = NAME,
};

char LICENSE[] SEC("license") = "GPL";
