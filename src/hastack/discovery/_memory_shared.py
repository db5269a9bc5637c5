"""One store for all processes of a machine that name the same file.

Each process has one link to it, made on the background loop when it is first needed and made anew
when it is lost: to whoever owns the file's lock, or, where nobody does, to a new and empty store
of this process, which it then serves to the others.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from hastack._core._cancel import _current
from hastack._core._clock import SYSTEM_CLOCK
from hastack._core._errors import ClosedError, StoreError, StoreTimeout, StoreUnavailable
from hastack._core._fork import renew_in_child
from hastack._core._portal import PORTAL

from . import _memory_lock
from ._memory_client import LinkLost, LocalLink, NotSent, SocketLink
from ._memory_engine import Engine
from ._memory_server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._memory_client import Link

__all__ = ("Shared", "shared")

TIMEOUT = 5.0  # seconds that a call takes at most when it does not say
_BEAT = 0.25  # seconds between two signs of life of the owner to its own leases
_MAY_BE_REPEATED = frozenset(("range", "identity", "renew"))


@final
class Shared:
    """This process's access to the store of one file.

    Args:
        path: The file.
        options: Bounds of the store, should this process come to own it.
    """

    def __init__(self, path: Path, options: dict[str, int]) -> None:
        self.path = path
        self._options = options
        self._handles = 0
        self._reset()
        renew_in_child(self)

    def _reset(self) -> None:
        self.link: Link | None = None
        self._lock = threading.Lock()
        self._linking: asyncio.Task[Link] | None = None
        self._told: dict[Callable[[], object], None] = {}  # when there is another link
        self._why = "no answer yet"  # why there is no link
        self._serving: asyncio.Task[None] | None = None

    def _after_fork(self) -> None:
        # The sockets and the lock are closed in the child already; links and tasks belong to the
        # parent's loop. The child's first call makes a link of its own.
        _forgotten.append((self.link, self._linking, self._serving, self._told))
        self._reset()

    # Handles

    def open(self) -> None:
        """One more store object uses this."""
        with self._lock:
            self._handles += 1

    async def close(self) -> None:
        """One less. After the last, this process has no part in the store any more."""
        with self._lock:
            self._handles -= 1
            last = self._handles == 0
        if last:
            await PORTAL.run(self._leave())

    async def _leave(self) -> None:
        with self._lock:
            if self._handles:
                return
        for task in (self._linking, self._serving):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        link, self.link = self.link, None
        if isinstance(link, SocketLink):
            link.close()

    # Calls

    async def call(self, timeout: float | None, name: str, args: tuple[Any, ...]) -> Any:
        """Call a method of the store's engine, from any loop.

        Raises:
            StoreUnavailable: There was no link within the time, or it was lost. Reads are repeated.
            StoreTimeout: There was no answer within the time.
        """
        link = self.link
        if isinstance(link, LocalLink) and link.lost is None:
            return getattr(link.engine, name)(*args)
        ctx = _current.get()
        seconds, left = TIMEOUT if timeout is None else timeout, ctx.remaining()
        waiting_for_link = True
        try:
            async with asyncio.timeout(seconds if left is None else min(seconds, left)):
                while True:
                    waiting_for_link = True
                    link = self.link
                    if link is None or link.lost is not None:
                        link = await PORTAL.run(self.linked())
                    waiting_for_link = False
                    try:
                        return await link.call(name, args)
                    except NotSent:
                        continue
                    except LinkLost as lost:
                        if name not in _MAY_BE_REPEATED:
                            raise StoreUnavailable(
                                str(lost), code="UNAVAILABLE", indeterminate=True
                            ) from None
        except TimeoutError as error:
            if isinstance(error, StoreError):
                raise
            ctx.check()
            if waiting_for_link:
                raise StoreUnavailable(f"{self.path}: {self._why}", code="UNAVAILABLE") from None
            raise StoreTimeout(
                f"no answer within {seconds:g} s", indeterminate=name not in _MAY_BE_REPEATED
            ) from None

    # The link; everything from here on runs on the background loop

    def tell(self, callback: Callable[[], object]) -> Callable[[], object]:
        """Call ``callback`` whenever a link was lost or made; the answer ends that."""
        self._told[callback] = None
        return lambda: self._told.pop(callback, None)

    def _tell(self) -> None:
        for callback in list(self._told):
            callback()

    async def linked(self) -> Link:
        """The link, as soon as there is one.

        Raises:
            StoreError: There will not be one: the file is another user's, for example.
        """
        if self.link is not None:
            return self.link
        if not self._handles:
            raise ClosedError(f"memory://{self.path}")
        if self._linking is None or self._linking.done():
            self._linking = asyncio.get_running_loop().create_task(self._make_link())
        # Shielded: others wait for it, too.
        return await asyncio.shield(self._linking)

    async def _make_link(self) -> Link:
        pause = 0.005
        while True:
            link = await self._try()
            if link is not None and link.lost is None:
                self.link = link
                self._tell()
                return link
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2.0, 0.25)

    async def _try(self) -> Link | None:
        """Link to the owner, or become it."""
        connection = _memory_lock.dial(self.path)
        if connection is not None:
            try:
                return await SocketLink.over(connection, self._lost)
            except LinkLost as lost:
                self._why = str(lost)
                return None
        lock = _memory_lock.OwnerLock.take(self.path)
        if lock is None:
            self._why = "its owner does not answer"
            return None
        return self._own(lock)

    def _own(self, lock: _memory_lock.OwnerLock) -> LocalLink:
        """Serve a new store: the lock says that nobody else does."""
        try:
            listener = _memory_lock.listen(self.path)
        except OSError as error:
            lock.release()
            raise StoreError(f"{self.path}: {error.strerror}", code="UNAVAILABLE") from error
        except BaseException:
            lock.release()
            raise
        link = LocalLink(Engine(clock=SYSTEM_CLOCK, **self._options))
        server = Server(link.engine, listener)
        self._serving = asyncio.get_running_loop().create_task(self._serve(link, server, lock))
        return link

    async def _serve(self, link: LocalLink, server: Server, lock: _memory_lock.OwnerLock) -> None:
        """Be the owner until the store is closed here, or somebody deletes its files."""
        reason = "the owner has closed the store"
        try:
            beats = 0
            while True:
                link.engine.beat()
                beats += 1
                if beats % 4 == 0:
                    server.check()
                    if not lock.stands() or not _memory_lock.is_there(self.path):
                        reason = f"{self.path} was deleted"
                        return
                await asyncio.sleep(_BEAT)
        finally:
            server.close(reason)
            lock.release()
            lost = LinkLost(reason, code="UNAVAILABLE")
            link.end(lost)
            self._lost(lost)

    def _lost(self, why: LinkLost) -> None:
        """The link has ended: those who wait for changes need another one."""
        self._why = str(why)
        if self.link is not None and self.link.lost is not None:
            self.link = None
            self._tell()


_lock = threading.Lock()
_by_path: dict[Path, Shared] = {}
_forgotten: list[object] = []  # what belongs to the parent, unused in a forked child


def shared(path: str, options: dict[str, int]) -> Shared:
    """This process's access to the store of ``path``; one for each file."""
    place = Path(os.path.realpath(os.path.dirname(path))) / os.path.basename(path)  # noqa: PTH120, PTH119  # the name itself may be a link that is refused later
    with _lock:
        one = _by_path.get(place)
        if one is None:
            one = _by_path[place] = Shared(place, options)
        return one


def _fresh_lock_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_fresh_lock_in_child)
