// An iterator over all maps; its types are our own, CO-RE fits them to the kernel.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define CORE __attribute__((preserve_access_index))
struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; __u64 session_id; __u64 seq_num; } CORE;
struct bpf_map { __u32 id; char name[16]; __u32 max_entries; } CORE;
struct bpf_iter__bpf_map { struct bpf_iter_meta *meta; struct bpf_map *map; } CORE;
struct no_such_type { int member; } CORE;
struct task_struct { int pid; int no_such_member; } CORE;

SEC("iter/bpf_map") int maps(struct bpf_iter__bpf_map *ctx)
{
	static const char form[] = "%d %d\n";
	struct bpf_map *map = ctx->map;
	if (!map)
		return 0;
	__u64 args[] = { map->id, map->max_entries };
	bpf_seq_printf(ctx->meta->seq, form, sizeof(form), args, sizeof(args));
	return 0;
}

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
} CORE;
__u64 elements;
SEC("?iter/bpf_map_elem") int entries(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *key = ctx->key;
	if (!key)
		return 0;
	elements++;
	bpf_seq_write(ctx->meta->seq, key, sizeof(*key));
	return 0;
}

int has_type, has_member = -1;
SEC("raw_tp/sys_enter") int look(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	has_type = bpf_core_type_exists(struct no_such_type);
	has_member = bpf_core_field_exists(task->no_such_member);
	return 0;
}
SEC("?raw_tp/sys_enter") int broken(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, no_such_member);
}
char LICENSE[] SEC("license") = "GPL";
