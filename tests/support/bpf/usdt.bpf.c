// Reads the arguments of USDT probes, in the way of libbpf's header.
#include <linux/bpf.h>
#include <stdbool.h>
#include <asm/ptrace.h>
#define BPF_USDT_MAX_SPEC_CNT 2
#define BPF_USDT_MAX_IP_CNT 1
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

long small, large, there, constant, count, cookie, calls;

SEC("usdt") int BPF_USDT(told, int a, long b, short c, int d)
{
	small = a;
	large = b;
	there = c;
	constant = d;
	count = bpf_usdt_arg_cnt(ctx);
	cookie = bpf_usdt_cookie(ctx);
	calls++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
