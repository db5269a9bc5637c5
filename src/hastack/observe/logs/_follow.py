"""Files that grow, whatever happens to their names."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, final

from hastack import context as _context
from hastack._core._errors import InvalidArgument
from hastack._core._validate import integer
from hastack._core._validate import seconds as _seconds

from ._batching import Chunk
from ._checkpoint import Checkpoint, Generation, Progress
from ._engine_events import FILE_ROTATED, FileRotated
from ._follow_plan import MARK, Found, Identity, Step, chosen, is_rotated_name, missed, next_step
from ._lines import LineSplitter
from .sources import MAX_LINE, Tallies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hastack._core._validate import Seconds

    from ._batching import Batching

__all__ = ("Follow",)

_OLD = 16  # rotated files that one path keeps open
_TICK = 20_000_000  # nanoseconds by which a file system's clock may be behind
_SOON = 0.02  # seconds to the next look after something came


@final
class Follow:
    r"""Follows files as they are written, rotated, truncated, deleted and made again.

    Lines are delivered once they are whole. A file that was renamed is read to its end before its
    successor, and watched for late lines for ``rotate_wait``; of one that was truncated, the copy
    beside it is looked for, so that copying and truncating loses nothing that was copied. Files that came and
    went between two looks are found by the names that rotations give. Positions are not shared
    with a forked child.

    Args:
        *paths: Files; they need not exist yet.
        start: Where to begin in files that no checkpoint knows: ``"beginning"`` or ``"end"``.
        checkpoint: A file that keeps how far delivery has come; the next follower with the
            same goes on there. After a crash up to a second is delivered again.
        poll: Seconds between two looks when nothing happens.
        rotate_wait: Seconds for which a file that was renamed or deleted is still watched.
        max_line: Bytes of a line that are kept.

    Raises:
        InvalidArgument: There are no paths, or an option is out of range.
        ValueError: ``checkpoint`` is a file that is none.

    Example:
        >>> import pathlib, tempfile
        >>> from hastack.observe import logs
        >>> path = pathlib.Path(tempfile.mkdtemp(), "app.log")
        >>> _ = path.write_text("level=info\nlevel=")
        >>> engine = logs.Engine(logs.Follow(path))
        >>> for record in engine.records():
        ...     print(record)
        ...     engine.stop()
        {'level': 'info'}
    """

    def __init__(
        self,
        *paths: str | os.PathLike[str],
        start: str = "beginning",
        checkpoint: str | os.PathLike[str] | None = None,
        poll: Seconds = 0.1,
        rotate_wait: Seconds = 5.0,
        max_line: int = MAX_LINE,
    ) -> None:
        if not paths:
            raise InvalidArgument("paths", paths, "at least one path")
        if start not in {"beginning", "end"}:
            raise InvalidArgument("start", start, "'beginning' or 'end'")
        self._poll = _seconds("poll", poll)
        self._tallies = Tallies()
        self._stopped = False
        self._checkpoint = None if checkpoint is None else Checkpoint(Path(checkpoint))
        wait = _seconds("rotate_wait", rotate_wait, zero=True)
        longest = integer("max_line", max_line)
        found = {} if self._checkpoint is None else self._checkpoint.found
        # Absolute: a later chdir() must not lead elsewhere.
        names = dict.fromkeys(os.path.abspath(path) for path in paths)  # noqa: PTH100  # keeps links
        self._paths = {
            name: _Path(
                name,
                self._tallies,
                longest,
                wait,
                found.get(name, Progress()),
                at_end=start == "end",
            )
            for name in names
        }

    def chunks(self, rules: Batching) -> Iterator[Chunk | None]:
        """New lines of all files, in turn."""
        pause = _SOON
        while True:
            _context.current().check()
            if self._stopped:
                for path in self._paths.values():
                    yield from path.read_out(rules.bytes, time.monotonic())
                return
            busy = False
            for path in self._paths.values():
                for chunk in path.look(rules.bytes, time.monotonic()):
                    busy = True
                    yield chunk
            if busy:
                pause = _SOON
                continue
            yield None
            ctx = _context.current()
            ctx.wait(pause)
            pause = min(pause * 2, self._poll)

    def settle(self, position: object) -> None:
        """What was read up to here has been delivered."""
        if isinstance(position, _Position):
            position.path.settle(position)
            self._save(now=False)

    def _save(self, *, now: bool) -> None:
        if self._checkpoint is not None:
            files = {name: path.progress() for name, path in self._paths.items()}
            self._checkpoint.save({**self._checkpoint.found, **files}, now=now)

    def stop(self) -> None:
        """End with what is there by now."""
        self._stopped = True

    def close(self) -> None:
        """Save how far delivery has come, and close the files."""
        try:
            self._save(now=True)
        finally:
            for path in self._paths.values():
                path.close()

    def tallies(self) -> Tallies:
        """What it counted."""
        return self._tallies


@final
class _Position:
    """The end of a chunk."""

    __slots__ = ("mark", "offset", "path", "tail")

    def __init__(self, path: _Path, tail: _Tail, offset: int, mark: bytes) -> None:
        self.path = path
        self.tail = tail
        self.offset = offset
        self.mark = mark


@final
class _Tail:
    """One open file."""

    def __init__(self, number: int, max_line: int, offset: int = 0, mark: bytes = b"") -> None:
        about = os.fstat(number)
        self.number = number
        self.identity = Identity(about.st_dev, about.st_ino)
        self.offset = offset
        self.line_start = offset
        self.mark = mark
        self.splitter = LineSplitter(max_line)
        self.until: float | None = None  # when it is given up, once it is an old one
        self.born = about.st_mtime_ns  # as of its opening
        self.changed = about.st_mtime_ns  # as of the last look
        self.settled = Generation(self.identity, offset, mark, self.changed)
        self._recent = mark

    def skip_to_end(self) -> None:
        """Begin with the line that is being written."""
        size = self.size()
        start = max(0, size - (1 << 16))
        last = os.pread(self.number, size - start, start)
        cut = last.rfind(b"\n") + 1
        self.offset = self.line_start = start + cut if cut else size
        self.mark = self._recent = last[max(0, cut - MARK) : cut]
        self.settled = _here(self)

    def size(self) -> int:
        about = os.fstat(self.number)
        self.changed = about.st_mtime_ns
        return about.st_size

    def known(self) -> bool:
        """Whether the bytes before the open line are still those that were read."""
        mark = self.mark
        return os.pread(self.number, len(mark), self.line_start - len(mark)) == mark

    def read(self, most: int) -> tuple[bytes | None, int]:
        """Whole lines from here on, and the bytes read. By position: a forked child has the same."""
        piece = os.pread(self.number, most, self.offset)
        cut = piece.rfind(b"\n") + 1
        if cut:
            self.line_start = self.offset + cut
            self.mark = (self._recent + piece[max(0, cut - MARK) : cut])[-MARK:]
        self._recent = (self._recent + piece[-MARK:])[-MARK:]
        self.offset += len(piece)
        return self.splitter.feed(piece), len(piece)

    def close(self) -> None:
        if self.number >= 0:
            os.close(self.number)
            self.number = -1


@final
class _Path:
    """One path, the file it leads to, and those it has led to."""

    def __init__(
        self,
        name: str,
        tallies: Tallies,
        max_line: int,
        wait: float,
        before: Progress,
        *,
        at_end: bool,
    ) -> None:
        self._name = name
        self._tallies = tallies
        self._max_line = max_line
        self._wait = wait
        self._resume: tuple[Generation, ...] = before.files
        self._at_end = at_end
        self._current: _Tail | None = None
        self._old: list[_Tail] = []
        self._done: list[_Tail] = []  # read to their ends, but not delivered yet
        self._since = before.since  # when what the path led to before was written to last
        self._real = name
        self._beside: frozenset[Found] = frozenset()  # what lay there before, and is nothing new
        self._ends = deque(before.ends, maxlen=2 * _OLD)  # where reading of earlier ones ended
        self._looked = 0
        self._vanished = False
        self._first = True
        self._begun_with: Found | None = None
        if before == Progress():
            # From now on the path is followed, though the first look may come later.
            self._begun_with = self._stat()
            self._beside = frozenset(self._siblings())
            self._since = time.time_ns() - _TICK

    # -- looking -------------------------------------------------------------------------------

    def look(self, most: int, now: float) -> Iterator[Chunk]:
        """What is new now, one piece of each file."""
        for old in list(self._old):
            yield from self._look_at_old(old, most, now)
        path = self._stat()
        tail = self._current
        if tail is None:
            step = next_step(None, 0, 0, path, known=True)
        else:
            size = tail.size()
            known = size <= tail.offset or tail.known()
            step = next_step(tail.identity, tail.offset, size, path, known=known)
        unknown = None if tail is None or tail.offset else tail
        if step is Step.READ:
            assert tail is not None
            yield from self._read(tail, most)
        elif step is Step.TRUNCATED:
            yield from self._truncated(most, now)
        elif step is Step.REPLACED:
            yield from self._replaced(most, now)
        elif step is Step.VANISHED:
            self._retire(now)
            self._vanished = True
            self._say("vanished")
        elif step is Step.OPEN:
            yield from self._open(most)
        if unknown and unknown is self._current and (step is Step.READ or self._stirred()):
            # Nothing of it was known, so it may have been copied and truncated unseen.
            yield from self._copied(unknown, most)

    def _read(self, tail: _Tail, most: int) -> Iterator[Chunk]:
        data, size = tail.read(most)
        splitter = tail.splitter
        self._tallies.bytes_read += size
        self._tallies.cut_lines += splitter.cut_lines
        self._tallies.cut_bytes += splitter.cut_bytes
        splitter.cut_lines = splitter.cut_bytes = 0
        if data is not None or size:
            yield self._chunk(tail, data, size)

    def _chunk(self, tail: _Tail, data: bytes | None, size: int) -> Chunk:
        position = _Position(self, tail, tail.line_start, tail.mark)
        # A full block is no trickle: nothing has to wait for others.
        live = size < 1 << 16
        return Chunk(self._name, data, size=size, position=position, live=live)

    def _look_at_old(self, tail: _Tail, most: int, now: float) -> Iterator[Chunk]:
        if tail.size() > tail.offset:
            yield from self._read(tail, most)
            if tail.until is not None:
                tail.until = max(tail.until, now + self._wait)  # somebody still writes to it
            return
        if tail.until is not None and now < tail.until and len(self._old) <= _OLD:
            return
        self._old.remove(tail)
        yield from self._finish(tail)
        self._say("expired")

    def read_out(self, most: int, now: float) -> Iterator[Chunk]:
        """What is there now, and no more: somebody may be writing all the time."""
        path = self._stat()
        left = (path.size if path is not None else 0) + most
        idle = 0
        while idle < 3 and left > 0:  # opening a file, for one, brings nothing yet
            idle += 1
            for chunk in self.look(most, now):
                idle = 0
                left -= chunk.size
                yield chunk
        while self._old:
            yield from self._finish(self._old.pop(0))

    def _finish(self, tail: _Tail) -> Iterator[Chunk]:
        """The last line of a file that grows no more, though it has no end."""
        last = tail.splitter.finish()
        self._done.append(tail)
        self._ends.append(_here(tail))
        tail.close()
        if last is not None:
            tail.line_start = tail.offset
            yield self._chunk(tail, last, 0)

    # -- what happens to paths -----------------------------------------------------------------

    def _truncated(self, most: int, now: float) -> Iterator[Chunk]:
        tail = self._current
        assert tail is not None
        self._say("truncated")
        fresh = _Tail(os.dup(tail.number), self._max_line)
        copy = self._holding(_here(tail)) if tail.mark else None
        rest = None if copy is None else self._reopen(copy, tail.line_start, tail.mark)
        if rest is None:
            yield from self._finish(tail)
        else:  # the open line is in the copy as well
            self._done.append(tail)
            tail.close()
        self._ends.append(_here(tail))
        self._current = fresh
        if rest is not None:
            yield from self._drain(rest, most)
        # It may have been copied and truncated more than once since anybody looked.
        yield from self._copied(tail, most)

    def _replaced(self, most: int, now: float) -> Iterator[Chunk]:
        self._retire(now)
        self._say("replaced")
        yield from self._open(most)

    def _copied(self, tail: _Tail, most: int) -> Iterator[Chunk]:
        """Copies of what an open file held for a while, between two looks."""
        # The last line and the copy may bear the same time.
        yield from self._between(tail.born - 1, most)

    def _stirred(self) -> bool:
        """Whether files may have come beside the path since that was last looked at."""
        try:
            return os.stat(os.path.dirname(self._real)).st_mtime_ns > self._looked - _TICK  # noqa: PTH116, PTH120
        except OSError:
            return False

    def _between(self, since: int, most: int) -> Iterator[Chunk]:
        """Files that the path led to while nobody looked."""
        self._looked = time.time_ns()
        path = self._stat()
        opened = {each.identity for each in self._old}
        if self._current is not None:
            opened.add(self._current.identity)  # moved away, perhaps, before anybody noticed
        if path is not None:
            opened.add(path.identity)
        siblings = self._siblings()
        for each in missed(siblings, after=since, opened=opened, known=self._beside):
            if any(self._holds(each.name, known) for known in self._ends if known.mark):
                continue  # it was read: under its old name, or before somebody copied it
            if self._current is not None and self._copies(each.name, self._current):
                self._looked = 0
                continue  # to be truncated in a moment, and then its rest is looked for
            found = self._reopen(each, 0, b"")
            if found is not None:
                yield from self._drain(found, most)

    def _drain(self, tail: _Tail, most: int) -> Iterator[Chunk]:
        """All of a file that only has to be read to its end."""
        self._old.append(tail)
        while tail.size() > tail.offset:
            yield from self._read(tail, most)
        self._old.remove(tail)
        yield from self._finish(tail)

    def _retire(self, now: float) -> None:
        tail, self._current = self._current, None
        if tail is not None:
            self._since = tail.changed if tail.offset else tail.born
            self._ends.append(_here(tail))
            tail.until = now + self._wait
            self._old.append(tail)

    def _open(self, most: int) -> Iterator[Chunk]:
        resume = self._resume
        first, self._first = self._first, False
        if resume:
            yield from self._go_on(resume, most)
            self._resume = ()
        elif first:
            yield from self._from_the_start(most)
        if self._current is None:
            if self._since is not None:
                yield from self._between(self._since, most)
            tail = self._try_open(self._name)
            if tail is None:
                self._first = first
                return
            if first and self._at_end and not resume and self._begun_with is not None:
                tail.skip_to_end()
            self._current = tail
        self._real = os.path.realpath(self._name)
        self._beside = frozenset(self._siblings())
        if self._vanished:
            self._vanished = False
            self._say("returned")

    def _from_the_start(self, most: int) -> Iterator[Chunk]:
        """The file that the path led to at first, if it was moved away before the first look."""
        begun, path = self._begun_with, self._stat()
        if begun is None or path is None or path.identity == begun.identity:
            return
        for each in self._siblings():
            if each.identity == begun.identity and each.size >= begun.size:
                tail = self._reopen(each, begun.size if self._at_end else 0, b"")
                if tail is not None:
                    yield from self._drain(tail, most)

    def _go_on(self, resume: tuple[Generation, ...], most: int) -> Iterator[Chunk]:
        """Where a checkpoint says that the last follower was."""
        self._real = os.path.realpath(self._name)
        for generation in resume:
            if not generation.mark:
                # Nothing of it was read, and nothing but its number is known, which another file
                # may have by now: whatever was written to since then is to be read.
                self._since = self._since or generation.changed - 1
                continue
            found = self._holding(generation)
            tail = None
            if found is not None:
                tail = self._reopen(found, generation.offset, generation.mark)
            if tail is None:
                self._since = generation.changed
                self._tallies.hurt(self._name, "what the checkpoint knows is gone")
                continue
            path = self._stat()
            if path is not None and path.identity == tail.identity:
                self._current = tail
                return
            yield from self._drain(tail, most)
            self._since = tail.changed

    def _holding(self, generation: Generation) -> Found | None:
        """The file beside the path, or the path's own, that holds a position."""
        everything = self._siblings()
        path = self._stat()
        if path is not None:
            everything.append(path)
        fitting = [each.name for each in everything if self._holds(each.name, generation)]
        return chosen(everything, generation.identity, generation.offset, fitting)

    def _copies(self, name: str, tail: _Tail) -> bool:
        """Whether a file is a copy of an open one, which may be under way."""
        here = _here(tail)
        if here.mark and self._holds(name, here):
            return True
        try:
            with Path(name).open("rb") as file:
                theirs = file.read(MARK)
        except OSError:
            return False  # gone meanwhile
        return bool(theirs) and os.pread(tail.number, len(theirs), 0) == theirs

    def _holds(self, name: str, position: Generation) -> bool:
        mark = position.mark
        try:
            with Path(name).open("rb") as file:
                return os.pread(file.fileno(), len(mark), position.offset - len(mark)) == mark
        except OSError:
            return False  # gone meanwhile

    # -- the file system -----------------------------------------------------------------------

    def _stat(self) -> Found | None:
        try:
            about = os.stat(self._name)  # noqa: PTH116  # called ten times a second
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._cannot(error)
            return None
        if not stat.S_ISREG(about.st_mode):
            self._cannot(OSError("not a regular file"))
            return None
        return Found(
            self._name, Identity(about.st_dev, about.st_ino), about.st_size, about.st_mtime_ns
        )

    def _cannot(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if self._tallies.damaged.get(self._name) != reason:
            self._tallies.hurt(self._name, reason)

    def _siblings(self) -> list[Found]:
        """What rotations have left beside the path, or beside the file that it links to."""
        found: list[Found] = []
        for name in dict.fromkeys((self._name, self._real)):
            folder, base = os.path.split(name)
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if is_rotated_name(entry.name, base) and entry.is_file():
                            about = entry.stat()
                            identity = Identity(about.st_dev, about.st_ino)
                            found.append(
                                Found(entry.path, identity, about.st_size, about.st_mtime_ns)
                            )
            except OSError:
                continue
        return found

    def _try_open(self, name: str, offset: int = 0, mark: bytes = b"") -> _Tail | None:
        try:
            number = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._cannot(error)
            return None
        tail = _Tail(number, self._max_line, offset, mark)
        if self._tallies.damaged and name == self._name:
            self._tallies.damaged.pop(name, None)
        return tail

    def _reopen(self, found: Found, offset: int, mark: bytes) -> _Tail | None:
        tail = self._try_open(found.name, offset, mark)
        if tail is not None and tail.identity != found.identity:
            tail.close()  # renamed once more, this very moment
            return None
        return tail

    def _say(self, reason: str) -> None:
        if FILE_ROTATED.subscribers:
            FILE_ROTATED.publish(FileRotated(name=self._name, reason=reason))

    # -- positions -----------------------------------------------------------------------------

    def settle(self, position: _Position) -> None:
        """Delivered up to there."""
        tail = position.tail
        tail.settled = Generation(tail.identity, position.offset, position.mark, tail.changed)
        self._done = [each for each in self._done if each.settled.offset < each.line_start]

    def progress(self) -> Progress:
        """Where the next follower has to go on: in old files first."""
        undelivered = [each for each in self._done if each.settled.offset < each.line_start]
        tails = [*undelivered, *self._old]
        if self._current is not None:
            tails.append(self._current)
        files = (*self._resume, *(tail.settled for tail in tails))
        return Progress(files, tuple(self._ends), None if files else self._since)

    def close(self) -> None:
        """Close all files."""
        for tail in (*self._old, *([self._current] if self._current is not None else [])):
            tail.close()
        self._old.clear()
        self._current = None


def _here(tail: _Tail) -> Generation:
    return Generation(tail.identity, tail.line_start, tail.mark, tail.changed)
