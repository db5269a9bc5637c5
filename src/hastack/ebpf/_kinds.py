"""The kernel's numbers for types of programs, maps and links; what ELF sections stand for them.

Source: ``include/uapi/linux/bpf.h`` and ``Documentation/bpf/libbpf/program_types.rst``.
"""

from __future__ import annotations

import attrs

__all__ = ("ATTACH_TYPES", "LINK_TYPES", "MAP_TYPES", "PROGRAM_TYPES", "Role", "role_of")

PROGRAM_TYPES: tuple[str, ...] = (
    *("unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp"),
    *("perf_event", "cgroup_skb", "cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops"),
    *("sk_skb", "cgroup_device", "sk_msg", "raw_tracepoint", "cgroup_sock_addr"),
    *("lwt_seg6local", "lirc_mode2", "sk_reuseport", "flow_dissector", "cgroup_sysctl"),
    *("raw_tracepoint_writable", "cgroup_sockopt", "tracing", "struct_ops", "ext", "lsm"),
    *("sk_lookup", "syscall", "netfilter"),
)

ATTACH_TYPES: tuple[str, ...] = (
    *("cgroup_inet_ingress", "cgroup_inet_egress", "cgroup_inet_sock_create", "cgroup_sock_ops"),
    *("sk_skb_stream_parser", "sk_skb_stream_verdict", "cgroup_device", "sk_msg_verdict"),
    *("cgroup_inet4_bind", "cgroup_inet6_bind", "cgroup_inet4_connect", "cgroup_inet6_connect"),
    *("cgroup_inet4_post_bind", "cgroup_inet6_post_bind", "cgroup_udp4_sendmsg"),
    *("cgroup_udp6_sendmsg", "lirc_mode2", "flow_dissector", "cgroup_sysctl"),
    *("cgroup_udp4_recvmsg", "cgroup_udp6_recvmsg", "cgroup_getsockopt", "cgroup_setsockopt"),
    *("trace_raw_tp", "trace_fentry", "trace_fexit", "modify_return", "lsm_mac", "trace_iter"),
    *("cgroup_inet4_getpeername", "cgroup_inet6_getpeername", "cgroup_inet4_getsockname"),
    *("cgroup_inet6_getsockname", "xdp_devmap", "cgroup_inet_sock_release", "xdp_cpumap"),
    *("sk_lookup", "xdp", "sk_skb_verdict", "sk_reuseport_select"),
    *("sk_reuseport_select_or_migrate", "perf_event", "trace_kprobe_multi", "lsm_cgroup"),
    *("struct_ops", "netfilter", "tcx_ingress", "tcx_egress", "trace_uprobe_multi"),
    *("cgroup_unix_connect", "cgroup_unix_sendmsg", "cgroup_unix_recvmsg"),
    *("cgroup_unix_getpeername", "cgroup_unix_getsockname", "netkit_primary", "netkit_peer"),
    *("trace_kprobe_session", "trace_uprobe_session"),
)

MAP_TYPES: tuple[str, ...] = (
    *("unspec", "hash", "array", "prog_array", "perf_event_array", "percpu_hash"),
    *("percpu_array", "stack_trace", "cgroup_array", "lru_hash", "lru_percpu_hash", "lpm_trie"),
    *("array_of_maps", "hash_of_maps", "devmap", "sockmap", "cpumap", "xskmap", "sockhash"),
    *("cgroup_storage", "reuseport_sockarray", "percpu_cgroup_storage", "queue", "stack"),
    *("sk_storage", "devmap_hash", "struct_ops", "ringbuf", "inode_storage", "task_storage"),
    *("bloom_filter", "user_ringbuf", "cgrp_storage", "arena", "insn_array"),
)

LINK_TYPES: tuple[str, ...] = (
    *("unspec", "raw_tracepoint", "tracing", "cgroup", "iter", "netns", "xdp", "perf_event"),
    *("kprobe_multi", "struct_ops", "netfilter", "tcx", "uprobe_multi", "netkit", "sockmap"),
)


@attrs.frozen
class Role:
    """What a section's name says about its programs.

    Args:
        type: Program type, one of `PROGRAM_TYPES`.
        attach: Attach type, one of `ATTACH_TYPES`, or ``""``.
        target: What follows the slash: a function, a tracepoint.
        sleepable: Whether the program may sleep.
        autoload: False when the name starts with a question mark.
    """

    type: str
    attach: str = ""
    target: str = ""
    sleepable: bool = False
    autoload: bool = True


# prefix -> (program type, attach type); a prefix ending with "+" may be followed by "/target".
_SECTIONS: dict[str, tuple[str, str]] = {
    "socket": ("socket_filter", ""),
    "sk_reuseport": ("sk_reuseport", "sk_reuseport_select"),
    "sk_reuseport/migrate": ("sk_reuseport", "sk_reuseport_select_or_migrate"),
    "kprobe+": ("kprobe", ""),
    "kretprobe+": ("kprobe", ""),
    "ksyscall+": ("kprobe", ""),
    "kretsyscall+": ("kprobe", ""),
    "uprobe+": ("kprobe", ""),
    "uretprobe+": ("kprobe", ""),
    "usdt+": ("kprobe", ""),
    "kprobe.multi+": ("kprobe", "trace_kprobe_multi"),
    "kretprobe.multi+": ("kprobe", "trace_kprobe_multi"),
    "uprobe.multi+": ("kprobe", "trace_uprobe_multi"),
    "uretprobe.multi+": ("kprobe", "trace_uprobe_multi"),
    "tc": ("sched_cls", ""),
    "classifier": ("sched_cls", ""),
    "action": ("sched_act", ""),
    "tc/ingress": ("sched_cls", "tcx_ingress"),
    "tc/egress": ("sched_cls", "tcx_egress"),
    "tcx/ingress": ("sched_cls", "tcx_ingress"),
    "tcx/egress": ("sched_cls", "tcx_egress"),
    "netkit/primary": ("sched_cls", "netkit_primary"),
    "netkit/peer": ("sched_cls", "netkit_peer"),
    "tracepoint+": ("tracepoint", ""),
    "tp+": ("tracepoint", ""),
    "raw_tracepoint+": ("raw_tracepoint", ""),
    "raw_tp+": ("raw_tracepoint", ""),
    "raw_tracepoint.w+": ("raw_tracepoint_writable", ""),
    "raw_tp.w+": ("raw_tracepoint_writable", ""),
    "tp_btf+": ("tracing", "trace_raw_tp"),
    "fentry+": ("tracing", "trace_fentry"),
    "fexit+": ("tracing", "trace_fexit"),
    "fmod_ret+": ("tracing", "modify_return"),
    "iter+": ("tracing", "trace_iter"),
    "freplace+": ("ext", ""),
    "lsm+": ("lsm", "lsm_mac"),
    "lsm_cgroup+": ("lsm", "lsm_cgroup"),
    "syscall": ("syscall", ""),
    "xdp": ("xdp", "xdp"),
    "xdp.frags": ("xdp", "xdp"),
    "xdp/devmap": ("xdp", "xdp_devmap"),
    "xdp/cpumap": ("xdp", "xdp_cpumap"),
    "perf_event": ("perf_event", ""),
    "lwt_in": ("lwt_in", ""),
    "lwt_out": ("lwt_out", ""),
    "lwt_xmit": ("lwt_xmit", ""),
    "lwt_seg6local": ("lwt_seg6local", ""),
    "sockops": ("sock_ops", "cgroup_sock_ops"),
    "sk_skb": ("sk_skb", ""),
    "sk_skb/stream_parser": ("sk_skb", "sk_skb_stream_parser"),
    "sk_skb/stream_verdict": ("sk_skb", "sk_skb_stream_verdict"),
    "sk_skb/verdict": ("sk_skb", "sk_skb_verdict"),
    "sk_msg": ("sk_msg", "sk_msg_verdict"),
    "lirc_mode2": ("lirc_mode2", "lirc_mode2"),
    "flow_dissector": ("flow_dissector", "flow_dissector"),
    "cgroup_skb/ingress": ("cgroup_skb", "cgroup_inet_ingress"),
    "cgroup_skb/egress": ("cgroup_skb", "cgroup_inet_egress"),
    "cgroup/skb": ("cgroup_skb", ""),
    "cgroup/sock": ("cgroup_sock", "cgroup_inet_sock_create"),
    "cgroup/sock_create": ("cgroup_sock", "cgroup_inet_sock_create"),
    "cgroup/sock_release": ("cgroup_sock", "cgroup_inet_sock_release"),
    "cgroup/post_bind4": ("cgroup_sock", "cgroup_inet4_post_bind"),
    "cgroup/post_bind6": ("cgroup_sock", "cgroup_inet6_post_bind"),
    "cgroup/sysctl": ("cgroup_sysctl", "cgroup_sysctl"),
    "cgroup/getsockopt": ("cgroup_sockopt", "cgroup_getsockopt"),
    "cgroup/setsockopt": ("cgroup_sockopt", "cgroup_setsockopt"),
    "cgroup/dev": ("cgroup_device", "cgroup_device"),
    "struct_ops+": ("struct_ops", ""),
    "sk_lookup": ("sk_lookup", "sk_lookup"),
    "netfilter": ("netfilter", "netfilter"),
    **{
        f"cgroup/{call}{family}": (
            "cgroup_sock_addr",
            f"cgroup_{where}{family}_{call}",
        )
        for call, where in (
            *((name, "inet") for name in ("bind", "connect", "getpeername", "getsockname")),
            *((name, "udp") for name in ("sendmsg", "recvmsg")),
        )
        for family in ("4", "6")
    },
    **{
        f"cgroup/{call}_unix": ("cgroup_sock_addr", f"cgroup_unix_{call}")
        for call in ("connect", "sendmsg", "recvmsg", "getpeername", "getsockname")
    },
}


def role_of(section: str) -> Role | None:
    """What a section's name stands for, or ``None`` when it stands for nothing known."""
    autoload = not section.startswith("?")
    name = section.removeprefix("?")
    if name in _SECTIONS:
        return Role(*_SECTIONS[name], autoload=autoload)
    prefix, _, target = name.partition("/")
    # "uprobe.s" may sleep; so may "iter.s", "lsm.s" and "struct_ops.s".
    plain = prefix.removesuffix(".s")
    found = _SECTIONS.get(f"{plain}+") or (_SECTIONS.get(plain) if plain != prefix else None)
    if found is None:
        return None
    return Role(*found, target, sleepable=plain != prefix, autoload=autoload)
