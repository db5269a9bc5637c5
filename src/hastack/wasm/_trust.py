"""Who must have signed a module, and what it must say of itself."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, final

import attrs

from hastack._core import _validate
from hastack._core._errors import InvalidArgument, NotTrusted

from . import _events
from ._keys import PrivateKey, PublicKey
from ._manifest import Manifest, manifest_of
from ._quorum import chosen
from ._reader import imported
from ._revocation import read as read_revocations
from ._signature import Signature, Signed, attach, encode, hashes, message, parse, split

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from ._floors import Floors
    from ._revocation import Revocations

_LISTS = ""
"""Under which name `Floors` keep the serial of the last list; no plugin is called so."""

__all__ = ("Signer", "Trust", "Unsigned", "Verified", "sign")


@final
class Unsigned:
    """In place of a trust policy: load what nobody signed.

    For tests, and for code that is trusted for other reasons.
    """

    def __repr__(self) -> str:
        return "Unsigned()"


@attrs.frozen
class Signer:
    """A person or a machine whose signature counts.

    Attributes:
        key: What verifies it.
        identity: Who it is. Several keys of one identity count once.
        role: What the signature says: ``"author"``, ``"reviewer"``.
    """

    key: PublicKey
    identity: str
    role: str = "author"

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.key, PublicKey):
            raise InvalidArgument("key", self.key, "a PublicKey")
        _validate.text("identity", self.identity)
        _validate.text("role", self.role)


@attrs.frozen(kw_only=True)
class Verified:
    """A module that is signed as demanded.

    Attributes:
        digest: SHA-256 of its bytes, in hexadecimal.
        identities: Who signed, among those who were needed.
        manifest: What it says of itself; ``None`` when it says nothing.
    """

    digest: str
    identities: tuple[str, ...]
    manifest: Manifest | None


@final
class Trust:
    """A policy: so many signatures of so many roles, by people who are not the same.

    Args:
        signers: Whose signatures count.
        require: How many persons of each role must have signed. By default one
            ``"author"``.
        review: What is required on top when a new version imports what the accepted one did not;
            by default one ``"reviewer"``, if there is any among the signers.
        revoked: Ids of keys and digests of modules that count no more.
        revokers: Whose lists of further ones `revoke` takes.
        floors: Where security versions are kept: lower ones than accepted before are refused.
        rollback: Accept lower ones all the same; each is a `PluginRolledBack` event.
        manifest: Whether a module must have a manifest. One without it may import nothing.

    Raises:
        InvalidArgument: No signers, or a requirement that they cannot fulfil.

    Example:
        >>> from hastack import wasm
        >>> key = wasm.PrivateKey.generate()
        >>> trust = wasm.Trust([wasm.Signer(key.public, "ada")])
        >>> module = wasm.sign(wasm.wat("(module)"), key)
        >>> trust.verify(module, name="empty").identities
        ('ada',)
    """

    def __init__(
        self,
        signers: Iterable[Signer],
        *,
        require: Mapping[str, int] | None = None,
        review: Mapping[str, int] | None = None,
        revoked: Collection[str] = (),
        revokers: Iterable[PublicKey] = (),
        floors: Floors | None = None,
        rollback: bool = False,
        manifest: bool = False,
    ) -> None:
        self._signers = tuple(signers)
        if not self._signers or not all(isinstance(one, Signer) for one in self._signers):
            raise InvalidArgument("signers", self._signers, "at least one Signer")
        keys = [one.key.id for one in self._signers]
        if len(set(keys)) != len(keys):
            raise InvalidArgument("signers", self._signers, "each key once: no two share one")
        self._require = dict(require or {"author": 1})
        reviewers = any(one.role == "reviewer" for one in self._signers)
        self._review = dict(review if review is not None else {"reviewer": 1} if reviewers else {})
        for parameter, wanted in (("require", self._require), ("review", self._review)):
            for role, count in wanted.items():
                _validate.integer(parameter, count)
                able = {one.identity for one in self._signers if one.role == role}
                if len(able) < count:
                    raise InvalidArgument(parameter, wanted, f"{role}s among the signers")
        self._always = self._revoked = frozenset(revoked)
        self._revokers = tuple(revokers)
        self._listed: Revocations | None = None
        self.floors = floors
        self._rollback = rollback
        self._manifest = manifest

    def revoke(self, data: bytes) -> Revocations:
        """Take a signed list of what no longer counts, in place of the one before.

        With `Floors` the highest serial is kept on disk, and an older list is refused also after a
        restart. What is loaded already goes on: close it, or offer another version.

        Args:
            data: What `hastack.wasm.revoke` made.

        Raises:
            NotTrusted: Nobody signed it whose word counts, it is older than one before, or expired.
        """
        listed = read_revocations(data, self._revokers)
        known = self._listed.serial if self._listed is not None else 0
        if self.floors is not None:
            known = max(known, self.floors.floor(_LISTS))
        if listed.serial < known:
            raise NotTrusted(f"list of revocations {listed.serial} is older than {known}")
        if listed.expires is not None and time.time() >= listed.expires:
            raise NotTrusted("list of revocations has expired")
        if self.floors is not None:
            self.floors.rise(_LISTS, listed.serial, ())
        self._listed, self._revoked = listed, self._always | listed.revoked
        return listed

    def verify(
        self, module: bytes, *, name: str, signature: bytes | None = None, now: float | None = None
    ) -> Verified:
        """Check a module against this policy; nothing of it is compiled.

        Args:
            module: The very bytes that will be compiled.
            name: What it is to be loaded as: its manifest must say the same.
            signature: A detached signature, when it is not inside.
            now: Seconds since 1970, for what expires; the system's clock by default.

        Raises:
            InvalidModule: It is no module.
            NotTrusted: It is not signed as demanded, revoked, too old, or says something else of
                itself than it is.
        """
        digest = hashlib.sha256(module).hexdigest()
        return self._judge(module, lambda: digest, name, signature, now)

    def _judge(
        self,
        module: bytes,
        find_digest: Callable[[], str],
        name: str,
        signature: bytes | None = None,
        now: float | None = None,
    ) -> Verified:
        """What `verify` does, for who has the digest of the module, or will have it."""
        now = time.time() if now is None else now
        expires = self._listed.expires if self._listed is not None else None
        if expires is not None and now >= expires:
            raise NotTrusted("list of revocations has expired")
        inside, content = split(module)
        wanted = hashes(content)
        digest = find_digest()
        if digest in self._revoked:
            raise NotTrusted("module is revoked")
        if signature is not None and inside is not None:
            raise NotTrusted("signed inside and beside: which one counts?")
        data = signature if signature is not None else inside
        if data is None:
            raise NotTrusted("module is not signed")
        manifest = manifest_of(module)
        imports = imported(module)
        require = self._demanded(name, manifest, imports, now)
        valid = self._valid(data, wanted)
        picked = chosen([(one.identity, one.role) for one in valid], require)
        if picked is None:
            missing = ", ".join(f"{count} {role}" for role, count in sorted(require.items()))
            raise NotTrusted(f"signed by {self._named(valid)}; it takes {missing}")
        self._tell_rollback(name, digest, manifest.svn if manifest is not None else 0)
        return Verified(digest=digest, identities=tuple(sorted(picked)), manifest=manifest)

    def _tell_rollback(self, name: str, digest: str, svn: int) -> None:
        floor = self.floors.floor(name) if self.floors is not None else 0
        if svn < floor and _events.ROLLED_BACK.subscribers:
            detail = f"security version {svn} was allowed; {floor} was accepted before"
            _events.ROLLED_BACK.publish(
                _events.PluginRolledBack(plugin=name, digest=digest, detail=detail)
            )

    def accepted(self, name: str, verified: Verified) -> None:
        """It was loaded and is good: from now on nothing older."""
        if self.floors is not None:
            manifest = verified.manifest
            svn, imports = (manifest.svn, manifest.imports) if manifest else (0, ())
            self.floors.rise(name, svn, imports)

    def _demanded(
        self, name: str, manifest: Manifest | None, imports: tuple[str, ...], now: float
    ) -> dict[str, int]:
        """What signatures it takes, after what it says of itself was checked."""
        if manifest is None:
            if self._manifest:
                raise NotTrusted("module has no manifest")
            if imports:
                raise NotTrusted(f"no manifest, but imports: {', '.join(imports)}")
        else:
            if manifest.name != name:
                raise NotTrusted(f"manifest is for {manifest.name!r}, not for {name!r}")
            if manifest.expires is not None and now >= manifest.expires:
                raise NotTrusted("module has expired")
            hidden = set(imports) - set(manifest.imports)
            if hidden:
                raise NotTrusted(f"imports that its manifest does not say: {sorted(hidden)}")
        if self.floors is None:
            return self._require
        svn = manifest.svn if manifest is not None else 0
        floor = self.floors.floor(name)
        if svn < floor and not self._rollback:
            raise NotTrusted(f"security version {svn}; {floor} was accepted before")
        before = self.floors.imports(name)
        if before is None or set(imports) <= before:
            return self._require
        return {
            role: max(self._require.get(role, 0), self._review.get(role, 0))
            for role in self._require.keys() | self._review.keys()
        }

    def _valid(self, data: bytes, wanted: bytes) -> list[Signer]:
        """Whose signatures of these very hashes are good. Partial ones are for other hashes."""
        keys = {one.key.id: one for one in self._signers if one.key.id not in self._revoked}
        found: dict[str, Signer] = {}
        for signed in parse(data):
            if signed.hashes != wanted:
                continue
            for signature in signed.signatures:
                signer = keys.get(signature.key_id.hex())
                if (
                    signer is not None
                    and signature.algorithm == signer.key.number
                    and signer.key.verifies(signature.value, message(wanted))
                ):
                    found[signer.key.id] = signer
        return list(found.values())

    def _named(self, valid: list[Signer]) -> str:
        return ", ".join(sorted(f"{one.identity} ({one.role})" for one in valid)) or "nobody known"


def sign(
    module: bytes, key: PrivateKey, *, detached: bool = False, beside: bytes | None = None
) -> bytes:
    """Sign a module; signatures that it has stay.

    Args:
        module: Its bytes.
        key: Who signs.
        detached: Whether to return the signature alone, to be kept beside the module.
        beside: Detached signatures of others, to be kept together with this one.

    Returns:
        The module with the signature inside, or the detached signature.

    Raises:
        InvalidModule: It is no module.
        NotTrusted: Its signature section is broken.
    """
    inside, content = split(module)
    digests = hashes(content)
    data = beside if beside is not None else inside
    known = parse(data) if data is not None else ()
    mine = Signature(bytes.fromhex(key.public.id), key.public.number, key.sign(message(digests)))
    kept = [one for one in known if one.hashes != digests]
    same = [s for one in known if one.hashes == digests for s in one.signatures]
    same = [s for s in same if s.key_id != mine.key_id]
    signed = (*kept, Signed(digests, (*same, mine)))
    encoded = encode(signed)
    return encoded if detached else attach(encoded, module)
