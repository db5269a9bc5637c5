// Programs and maps of most kinds, as small as they can be.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

enum color { RED = 1, GREEN = 2 };
struct pair { __u32 x; __s16 y; };
struct value {
	__u64 count;
	char comm[16];
	unsigned char mac[6];
	_Bool flag;
	enum color color;
	__u32 low : 3, high : 13;
	struct pair pairs[2];
	union { __u32 word; __u16 half; } either;
};
struct event { __u32 pid; __u32 n; __u64 at; char comm[16]; };
struct prefix { __u32 bits; __u8 address[4]; };

const struct event *events_event;
const volatile __u32 step = 1;
const volatile char label[8] = "none";
__u64 hits;
__u64 events_lost;
__s32 level = -7;
struct value last;
static __u64 hidden = 5;

#define MAP(name, kind, entries, k, v) \
	struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, entries); \
		 __type(key, k); __type(value, v); } name SEC(".maps")
#define KEYLESS(name, kind, entries, v) \
	struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, entries); \
		 __type(value, v); } name SEC(".maps")

MAP(table, HASH, 1024, __u32, struct value);
MAP(numbers, ARRAY, 8, __u32, __u64);
MAP(recent, LRU_HASH, 64, __u64, __u32);
MAP(per_cpu, PERCPU_ARRAY, 4, __u32, struct pair);
MAP(per_cpu_table, PERCPU_HASH, 64, __u32, __u64);
MAP(per_cpu_recent, LRU_PERCPU_HASH, 64, __u32, __u64);
KEYLESS(line, QUEUE, 4, __u32);
KEYLESS(pile, STACK, 4, struct pair);
KEYLESS(seen, BLOOM_FILTER, 100, __u32);
MAP(pairs, HASH, 64, struct pair, __u32);
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 16);
	 __uint(map_flags, BPF_F_NO_PREALLOC);
	 __type(key, struct prefix); __type(value, __u32); } routes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4);
	 __uint(key_size, 4); __uint(value_size, 4); } slots SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1);
	       __type(key, __u32); __type(value, __u64); };
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 4);
	 __type(key, __u32); __array(values, struct inner); } outer SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 4);
	 __type(key, __u32); __array(values, struct inner); } outer_array SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } small SEC(".maps");
MAP(sockets, SOCKHASH, 16, __u32, __u64);
struct { __uint(type, BPF_MAP_TYPE_SK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC);
	 __type(key, int); __type(value, __u64); } of_socket SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 16);
	 __uint(key_size, 4); __uint(value_size, 127 * 8); } stacks SEC(".maps");
MAP(devices, DEVMAP, 4, __u32, __u32);
MAP(cpus, CPUMAP, 4, __u32, __u32);
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 32); __uint(pinning, 1);
	 __type(key, __u32); __type(value, __u64); } kept SEC(".maps");

static __noinline long emit(__u32 n, void *context)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&events_lost, 1);
		return 0;
	}
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->n = n;
	e->at = bpf_ktime_get_ns();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	if (label[0] == 'd' && n % 4 == 3)
		bpf_ringbuf_discard(e, 0);
	else
		bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("xdp") int burst(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + 64 > end)
		return XDP_DROP;
	bpf_loop(*(__u16 *)data, emit, 0, 0);
	return XDP_PASS;
}

SEC("xdp") int odd_sizes(struct xdp_md *ctx)
{
	char text[] = "odd";
	bpf_ringbuf_output(&events, text, sizeof(text), 0);
	emit(1, 0);
	return XDP_PASS;
}

SEC("xdp") int fill(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&numbers, &zero);
	if (n)
		__sync_fetch_and_add(n, step);
	last.count = hits;
	last.color = GREEN;
	last.low = 5;
	last.either.word = 0x10002;
	__u32 key = step;
	bpf_map_update_elem(&table, &key, &last, BPF_ANY);
	hidden++;
	return XDP_TX;
}

SEC("tc") int pass(struct __sk_buff *skb) { skb->mark = 9; return 0; }
SEC("tcx/ingress") int tcx_in(struct __sk_buff *skb) { __sync_fetch_and_add(&hits, 1); return -1; }
SEC("xdp") int xdp_count(struct xdp_md *ctx) { __sync_fetch_and_add(&hits, 1); return XDP_PASS; }
SEC("cgroup_skb/egress") int egress(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&hits, step);
	return 1;
}
SEC("cgroup_skb/egress") int egress_other(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&hits, 1000000);
	return 1;
}
SEC("cgroup/connect4") int connect4(struct bpf_sock_addr *ctx)
{
	return bpf_ntohs(ctx->user_port) != 9;
}
SEC("cgroup/sock_create") int sock_create(struct bpf_sock *ctx) { hits++; return 1; }
SEC("cgroup/setsockopt") int setsockopt(struct bpf_sockopt *ctx) { ctx->optlen = 0; return 1; }
SEC("cgroup/sysctl") int sysctl(struct bpf_sysctl *ctx) { hits++; return 1; }
SEC("cgroup/dev") int dev(struct bpf_cgroup_dev_ctx *ctx) { return 1; }
SEC("sockops") int sock_events(struct bpf_sock_ops *ctx) { __sync_fetch_and_add(&hits, 1); return 1; }
SEC("sk_lookup") int lookup(struct bpf_sk_lookup *ctx) { __sync_fetch_and_add(&hits, 1); return SK_PASS; }
SEC("sk_msg") int message(struct sk_msg_md *ctx) { __sync_fetch_and_add(&hits, 1); return SK_PASS; }
SEC("sk_skb/verdict") int verdict(struct __sk_buff *skb) { return SK_PASS; }
SEC("raw_tp/sys_enter") int raw(void *ctx) { __sync_fetch_and_add(&hits, 1); return 0; }
SEC("tp/syscalls/sys_enter_getppid") int tp(void *ctx) { __sync_fetch_and_add(&hits, 1); return 0; }
SEC("uprobe") int up(void *ctx) { emit(77, 0); __sync_fetch_and_add(&hits, 1); return 0; }
SEC("uprobe/libc.so.6:getppid") int named(void *ctx) { __sync_fetch_and_add(&hits, 1); return 0; }
SEC("uretprobe") int down(void *ctx) { __sync_fetch_and_add(&hits, 100); return 0; }
SEC("perf_event") int tick(void *ctx) { __sync_fetch_and_add(&hits, 1); return 0; }

SEC("?fentry/bpf_fentry_test1") int enter(void *ctx) { return 0; }
SEC("?lsm/file_open") int open_file(void *ctx) { return 0; }
SEC("?kprobe/do_exit") int kernel(void *ctx) { return 0; }
SEC("?strange") int strange(void *ctx) { return 0; }
SEC("?xdp") int unchecked(struct xdp_md *ctx)
{
	__u32 key = 1;
	struct value *v = bpf_map_lookup_elem(&table, &key);
	return v->count;
}
SEC("?xdp") int leaks(struct xdp_md *ctx)
{
	bpf_ringbuf_reserve(&events, 8, 0);
	return 0;
}
SEC("?xdp") int not_here(struct xdp_md *ctx)
{
	return bpf_override_return((void *)ctx, 1);
}

char LICENSE[] SEC("license") = "GPL";

struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 4096); } orders SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } samples SEC(".maps");
struct order { __u32 kind; __u32 amount; };
const struct order *orders_event;
const struct event *samples_event;
__u64 ordered, amount;
static long take(struct bpf_dynptr *each, void *context)
{
	struct order order;
	if (bpf_dynptr_read(&order, sizeof(order), each, 0, 0))
		return 0;
	ordered++;
	amount += order.amount;
	return 0;
}
SEC("?xdp") int drain(struct xdp_md *ctx)
{
	bpf_user_ringbuf_drain(&orders, take, 0, 0);
	return XDP_PASS;
}
SEC("?xdp") int samples_out(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + 64 > end)
		return XDP_DROP;
	for (__u32 n = 0; n < 1000 && n < *(__u16 *)data; n++) {
		struct event e = { .pid = 7, .n = n, .at = bpf_ktime_get_ns(), .comm = "sampled" };
		bpf_perf_event_output(ctx, &samples, BPF_F_CURRENT_CPU, &e, sizeof(e));
	}
	return XDP_PASS;
}

__u64 seen_a, seen_b;
SEC("?uprobe") int slot_a(void *ctx) { __sync_fetch_and_add(&seen_a, 1); return 0; }
SEC("?uprobe") int slot_b(void *ctx) { __sync_fetch_and_add(&seen_b, 1); return 0; }
SEC("?usdt") int usdt(void *ctx) { __sync_fetch_and_add(&seen_a, 1); return 0; }
SEC("?raw_tp/sys_enter") int raw_a(void *ctx) { __sync_fetch_and_add(&seen_a, 1); return 0; }
SEC("?raw_tp/sys_enter") int raw_b(void *ctx) { __sync_fetch_and_add(&seen_b, 1); return 0; }
