"""What programs may call, by their type and by what a manifest allows.

A ban that is the same for all would refuse half of all real tools: reading kernel memory is what
tracing is. So what is denied depends on what a program is attached to: a program that sees packets
has no business in kernel memory, and nothing has a business in writing another process's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ._spec import Call, Spec

__all__ = ("Policy",)

# Programs that see packets, sockets or control groups.
_NETWORK = frozenset(
    (
        *("socket_filter", "sched_cls", "sched_act", "xdp", "cgroup_skb", "cgroup_sock"),
        *("lwt_in", "lwt_out", "lwt_xmit", "lwt_seg6local", "sock_ops", "sk_skb", "sk_msg"),
        *("cgroup_device", "cgroup_sock_addr", "sk_reuseport", "flow_dissector"),
        *("cgroup_sysctl", "cgroup_sockopt", "sk_lookup", "netfilter", "struct_ops"),
    )
)
# These change other programs, or are a way around every other check.
_NEVER = frozenset(
    f"bpf_{name}"
    for name in (
        *("probe_write_user", "override_return", "send_signal", "send_signal_thread"),
        *("sys_bpf", "sys_close", "kallsyms_lookup_name", "btf_find_by_name_kind"),
        *("copy_from_user_task", "bprm_opts_set"),
    )
)
_KERNEL_MEMORY = frozenset(
    f"bpf_{name}"
    for name in (
        *("probe_read", "probe_read_str", "probe_read_kernel", "probe_read_kernel_str"),
        *("get_current_task", "get_current_task_btf", "task_pt_regs", "snprintf_btf"),
        *("seq_printf_btf", "d_path"),
    )
)
_USER_MEMORY = frozenset(("bpf_probe_read_user", "bpf_probe_read_user_str", "bpf_copy_from_user"))


def _names(given: Iterable[str]) -> frozenset[str]:
    return frozenset(given)


def _optional_names(given: Iterable[str] | None) -> frozenset[str] | None:
    return None if given is None else frozenset(given)


@attrs.frozen(kw_only=True)
class Policy:
    """What programs of an object may call; the default is strict.

    Denied to all: helpers that write other programs' memory, send signals, override results, or call
    bpf(). Denied to programs that see packets, sockets or control groups: kernel and user memory.
    Denied to tracing programs until it is allowed: kernel memory. Kernel functions (kfuncs), and
    helpers without a known number, until they are named. Programs of unknown type are refused.

    Args:
        kernel_memory: Whether tracing programs may read kernel memory (``BPF_CORE_READ`` does).
        helpers: Names of helpers to allow whatever the rules say, ``"bpf_send_signal"``.
        kfuncs: Names of kernel functions to allow.
        types: Program types to accept; ``None`` for all.
        tail_calls: Whether programs may jump into program arrays that others have made.

    Example:
        >>> from hastack import ebpf
        >>> ebpf.Policy(kernel_memory=True).kernel_memory
        True
    """

    kernel_memory: bool = False
    helpers: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    kfuncs: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    types: frozenset[str] | None = attrs.field(default=None, converter=_optional_names)
    tail_calls: bool = False

    def violations(self, spec: Spec, *, foreign: Collection[str] = ()) -> tuple[str, ...]:
        """What an object does that this policy forbids, one clause each; empty when it may load.

        Every executable section is looked at, also code that no program reaches: it is held to the
        rules of all program types of the object together.

        Args:
            spec: The object.
            foreign: Names of maps that somebody else has made.
        """
        found = list(self._programs(spec, foreign))
        reached: set[Call] = set()
        for program in spec.programs.values():
            for call in program.calls:
                reached.add(call)
                reason = self._denied(call, program.type)
                if reason:
                    found.append(_clause(program.name, call, reason))
        kinds = sorted({program.type for program in spec.programs.values()})
        for call in spec.calls:
            if call in reached:
                continue
            reason = next(filter(None, (self._denied(call, kind) for kind in kinds)), "")
            if reason:
                found.append(_clause("code that no program reaches", call, reason))
        return tuple(found)

    def _programs(self, spec: Spec, foreign: Collection[str]) -> Iterable[str]:
        for program in spec.programs.values():
            if not program.type:
                yield f"{program.name}: section {program.section!r} has no known type"
            elif self.types is not None and program.type not in self.types:
                yield f"{program.name}: type {program.type} is not accepted"
            jumps = "bpf_tail_call" in program.helpers
            for name in program.maps if jumps and not self.tail_calls else ():
                if name in foreign and spec.maps[name].type == "prog_array":
                    yield f"{program.name}: jumps into {name}, which others have made"

    def _denied(self, call: Call, kind: str) -> str:
        """Why a program of a type may not call that; empty when it may."""
        if call.kind == "kfunc":
            return "" if call.name in self.kfuncs else "a kernel function that is not allowed"
        if call.name.startswith("bpf_helper_") and call.name not in self.helpers:
            return "a helper that is not known"
        return self.denies(call.name, kind)

    def denies(self, helper: str, kind: str) -> str:
        """Why a program of a type may not call a helper; empty when it may.

        Args:
            helper: Its name, ``"bpf_probe_read_kernel"``.
            kind: The program type, ``"xdp"``.
        """
        if helper in self.helpers:
            return ""
        if helper in _NEVER:
            return "denied to all programs"
        network = kind in _NETWORK
        if helper in _KERNEL_MEMORY and (network or not self.kernel_memory):
            return (
                f"kernel memory is not for programs of type {kind}"
                if network
                else ("kernel memory is not allowed")
            )
        if helper in _USER_MEMORY and network:
            return f"user memory is not for programs of type {kind}"
        return ""


def _clause(who: str, call: Call, reason: str) -> str:
    at = f" at {call.source}" if call.source else f" ({call.section}, instruction {call.index})"
    return f"{who}: {call.name}: {reason}{at}"
