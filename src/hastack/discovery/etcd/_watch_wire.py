"""Messages of the watch stream to and from the records of the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hastack.discovery._records import KeyValue, WatchEvent

from . import _wire
from ._watch_records import Answer, CancelWatch, CreateWatch

if TYPE_CHECKING:
    from ._watch_records import AskProgress

__all__ = ("answer_of", "request_of")

_DELETE = 1


def answer_of(message: Any, cut: int) -> Answer:
    """A message of the stream; ``cut`` bytes of each key are the client's namespace."""
    header = message.header
    events = []
    for each in message.events:
        kv = each.kv
        record = KeyValue(
            kv.key[cut:], kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease
        )
        events.append(WatchEvent("delete" if each.type == _DELETE else "put", record))
    return Answer(
        message.watch_id,
        header.cluster_id,
        header.revision,
        header.raft_term,
        events,
        message.created,
        message.canceled,
        message.fragment,
        message.compact_revision,
        message.cancel_reason,
    )


def request_of(command: CreateWatch | CancelWatch | AskProgress) -> Any:
    """The message for a command."""
    if isinstance(command, CreateWatch):
        where = command.where
        return _wire.WatchRequest(
            create_request=_wire.WatchCreateRequest(
                key=where.key,
                range_end=where.end or b"",
                start_revision=command.start,
                watch_id=command.watch_id,
                fragment=True,
            )
        )
    if isinstance(command, CancelWatch):
        return _wire.WatchRequest(
            cancel_request=_wire.WatchCancelRequest(watch_id=command.watch_id)
        )
    return _wire.WatchRequest(progress_request=_wire.WatchProgressRequest())
