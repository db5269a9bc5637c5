"""Signatures, keys and policies: what is accepted, and everything that is not."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack import events, wasm
from hastack.errors import InvalidArgument, InvalidModule, NotTrusted
from hastack.wasm import Floors, Manifest, PrivateKey, PublicKey, Signer, Trust, sign
from hastack.wasm._ed25519 import ORDER, D, P, weakness
from hastack.wasm._keys import _P384_HALF
from hastack.wasm._quorum import chosen
from hastack.wasm._reader import MAGIC, sections
from hastack.wasm._signature import (
    Signature,
    Signed,
    attach,
    custom,
    detach,
    encode,
    hashes,
    leb,
    message,
    parse,
    split,
)

ADA, BOB, EVE = (PrivateKey.generate() for _ in range(3))
ACE = PrivateKey.generate("p384")


def vec(*items: bytes) -> bytes:
    return leb(len(items)) + b"".join(items)


def section(number: int, payload: bytes) -> bytes:
    return bytes([number]) + leb(len(payload)) + payload


def name(text: str) -> bytes:
    return leb(len(text)) + text.encode()


TYPES = section(1, vec(b"\x60\x00\x00"))
PLAIN = MAGIC + TYPES + section(3, vec(b"\x00")) + section(10, vec(b"\x02\x00\x0b"))
IMPORTING = MAGIC + TYPES + section(2, vec(name("env") + name("log") + b"\x00\x00"))


def one(key: PrivateKey = ADA, role: str = "author", identity: str = "ada", **options) -> Trust:
    return Trust([Signer(key.public, identity, role)], **options)


@pytest.mark.parametrize("key", [ADA, ACE], ids=["ed25519", "p384"])
def test_what_is_signed_is_accepted(key: PrivateKey) -> None:
    trust = one(key)
    signed = sign(PLAIN, key)
    verified = trust.verify(signed, name="any")
    assert verified.identities == ("ada",)
    assert verified.digest == hashlib.sha256(signed).hexdigest()
    beside = sign(PLAIN, key, detached=True)
    assert trust.verify(PLAIN, name="any", signature=beside).identities == ("ada",)
    assert detach(signed) == (beside, PLAIN) or key is ACE  # ECDSA differs each time
    assert attach(beside, PLAIN) == signed or key is ACE
    with pytest.raises(NotTrusted, match="beside"):
        trust.verify(signed, name="any", signature=beside)


def test_unsigned_and_signed_by_others_is_not() -> None:
    with pytest.raises(NotTrusted, match="not signed"):
        one().verify(PLAIN, name="any")
    with pytest.raises(NotTrusted, match="nobody known; it takes 1 author"):
        one().verify(sign(PLAIN, EVE), name="any")


def test_signing_again_replaces_one_s_own_and_keeps_the_others() -> None:
    twice = sign(sign(sign(PLAIN, ADA), BOB), ADA)
    (signed,) = parse(split(twice)[0])
    assert len(signed.signatures) == 2
    changed = MAGIC + custom("note", b"x") + TYPES
    both = sign(changed, ADA, beside=sign(PLAIN, BOB, detached=True), detached=True)
    assert len(parse(both)) == 2  # of other bytes: kept, and of no use here


def test_a_thousand_flipped_bits_are_refused() -> None:
    signed = sign(wasm.with_manifest(PLAIN, name="p", svn=1), ADA)
    trust = one(floors=None)
    trust.verify(signed, name="p")
    chance = random.Random(7)
    for _ in range(1000):
        broken = bytearray(signed)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        with pytest.raises((NotTrusted, InvalidModule)):
            trust.verify(bytes(broken), name="p")


def refused(module: bytes) -> str:
    with pytest.raises((NotTrusted, InvalidModule)) as caught:
        one().verify(module, name="any")
    return str(caught.value)


def test_every_trick_with_sections_is_refused() -> None:
    signed = sign(PLAIN, ADA)
    data, _ = detach(signed)
    signature = sections(signed)[0]
    part = signed[signature.start : signature.end]
    rest = signed[signature.end :]
    assert "not signed" in refused(MAGIC + rest)  # stripped
    assert "not the first" in refused(MAGIC + rest + part)  # moved
    assert "not the first" in refused(MAGIC + part + part + rest)  # doubled
    assert "not the first" in refused(MAGIC + part + rest + part)
    refused(signed + b"\0")  # a byte behind
    assert "nobody known" in refused(signed + custom("more", b"x"))
    assert "nobody known" in refused(MAGIC + part + custom("more", b"") + rest)
    long = b"\0" + bytes([len(part) - 2 | 0x80, 0x00]) + part[2:]
    assert len(part) - 2 > 127 or "longer" in refused(MAGIC + long + rest)
    body = name("signature") + data
    padded = b"\0" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7 | 0x80, 0]) + body
    assert "longer" in refused(MAGIC + padded + rest)
    assert "left over" in refused(MAGIC + custom("signature", data + b"\0") + rest)
    assert "unexpected end" in refused(MAGIC + custom("signature", data[:-1]) + rest)
    assert "another version" in refused(MAGIC + custom("signature", b"\x02" + data[1:]) + rest)
    assert "another version" in refused(MAGIC + custom("signature", b"") + rest)


def test_of_the_old_form_and_of_the_wrong_algorithm() -> None:
    digests = hashes(PLAIN[8:])
    key_id = bytes.fromhex(ADA.public.id)

    def with_(value: bytes, algorithm: int = 1) -> bytes:
        return attach(encode((Signed(digests, (Signature(key_id, algorithm, value),)),)), PLAIN)

    assert one().verify(with_(ADA.sign(message(digests))), name="any")
    assert "nobody known" in refused(with_(ADA.sign(digests)))  # before "wasmsig" stood there
    assert "nobody known" in refused(with_(ADA.sign(message(digests)), 3))
    assert "nobody known" in refused(with_(b""))
    many = tuple(Signature(key_id, 1, b"") for _ in range(65))
    assert "more than 64" in refused(attach(encode((Signed(digests, many),)), PLAIN))


def test_numbers_in_signature_data_are_as_short_as_can_be() -> None:
    long = b"\x01\x01\x01\x81\x00\x00\x00"
    with pytest.raises(NotTrusted, match="longer"):
        parse(long)


def test_parts_and_partial_signatures() -> None:
    mark = custom("signature_delimiter", bytes(16))
    whole = MAGIC + TYPES + mark + section(3, vec(b"\x00")) + section(10, vec(b"\x02\0\x0b")) + mark
    assert len(hashes(whole[8:])) == 64
    assert one().verify(sign(whole, ADA), name="any")
    first = hashes(whole[8:])[:32]
    key_id = bytes.fromhex(ADA.public.id)
    partial = encode((Signed(first, (Signature(key_id, 1, ADA.sign(message(first))),)),))
    assert "nobody known" in refused(attach(partial, whole))
    with pytest.raises(NotTrusted, match="behind the last delimiter"):
        sign(MAGIC + TYPES + mark + custom("more", b""), ADA)


@given(st.binary(max_size=80))
def test_signature_data_reads_or_is_refused(data: bytes) -> None:
    try:
        found = parse(b"\x01\x01\x01" + data)
    except NotTrusted:
        return
    assert encode(found) == b"\x01\x01\x01" + data


def compressed(x: int, y: int) -> bytes:
    return (y | (x & 1) << 255).to_bytes(32, "little")


def small_order() -> list[bytes]:
    """All eight points whose order divides eight, from the curve's own formulas."""
    found = {(0, 1), (0, P - 1)}
    root = pow(2, (P - 1) // 4, P)
    found |= {(root, 0), (P - root, 0)}
    # Of order 8: doubled they have y = 0, so that y^2 = -x^2 and -x^2 = y^2 = 1/sqrt(-d) or so.
    for start in range(2, 2000):
        y = start
        square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
        x = pow(square, (P + 3) // 8, P)
        if (x * x - square) % P:
            x = x * root % P
        if (x * x - square) % P:
            continue
        point = times(ORDER, (x, y))
        for _ in range(8):
            found.add(point)
            point = add(point, times(ORDER, (x, y)))
        if len(found) == 8:
            return [compressed(*one) for one in found]
    raise AssertionError


def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    k = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, P - 2, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, P - 2, P) % P
    return x, y


def times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
    total = (0, 1)
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


def test_weak_keys_are_refused() -> None:
    points = small_order()
    assert len(points) == 8
    for raw in points:
        assert "small order" in weakness(raw)
        with pytest.raises(InvalidArgument, match="small order"):
            PublicKey(b"\x01" + raw)
    assert "canonical" in weakness((P + 1).to_bytes(32, "little"))
    assert "canonical" in weakness(b"\xff" * 32)
    assert "32 bytes" in weakness(b"")
    assert "curve" in weakness(b"\x02" + bytes(31))
    assert "curve" in weakness(b"\x01" + bytes(30) + b"\x80")  # minus nothing
    good = ADA.public.serialized[1:]
    assert weakness(good) == ""
    assert PrivateKey.generate().public.algorithm == "ed25519"
    mixed = add(point_of(good), point_of(points[3] if points[3] != good else points[4]))
    assert weakness(compressed(*mixed)) == "" or "prime order" in weakness(compressed(*mixed))
    strange = [add(point_of(good), point_of(raw)) for raw in points]
    assert sum("prime order" in weakness(compressed(*one)) for one in strange) == 7


def point_of(raw: bytes) -> tuple[int, int]:
    number = int.from_bytes(raw, "little")
    sign_, y = number >> 255, number & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x & 1 != sign_ else x), y


def test_keys_are_kept_as_pem() -> None:
    for key in (ADA, ACE):
        assert PrivateKey.from_pem(key.to_pem()).public == key.public
        assert PublicKey.from_pem(key.public.to_pem()) == key.public
        locked = key.to_pem(b"secret")
        assert PrivateKey.from_pem(locked, b"secret").public == key.public
        for password in (None, b"wrong"):
            with pytest.raises(InvalidArgument, match="password"):
                PrivateKey.from_pem(locked, password)
    assert repr(ADA) == f"<PrivateKey for {ADA.public.id}>"
    assert repr(ADA.public) == f"<PublicKey ed25519 {ADA.public.id}>"
    assert len({ADA.public, PublicKey(ADA.public.serialized)}) == 1
    assert ADA.public != "key"
    for wrong in (b"", "text", b"\x01short", b"\x09" + bytes(32), b"\x03" + bytes(49), b"\x03x"):
        with pytest.raises(InvalidArgument, match="key"):
            PublicKey(wrong)
    for pem in (b"", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", other_pem()):
        with pytest.raises(InvalidArgument):
            PublicKey.from_pem(pem)
    with pytest.raises(InvalidArgument):
        PrivateKey.from_pem(other_pem(private=True))
    with pytest.raises(InvalidArgument, match="algorithm"):
        PrivateKey.generate("rsa")


def other_pem(*, private: bool = False) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    if private:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )  # fmt: skip
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_of_two_forms_of_an_ecdsa_signature_one_counts() -> None:
    for _ in range(8):  # half of what OpenSSL makes has to be turned round
        signature = ACE.sign(b"message")
        assert ACE.public.verifies(signature, b"message")
        r, s = signature[:48], int.from_bytes(signature[48:], "big")
        assert s <= _P384_HALF
        other = r + (2 * _P384_HALF + 1 - s).to_bytes(48, "big")
        assert not ACE.public.verifies(other, b"message")
    assert not ACE.public.verifies(b"short", b"message")
    assert not ACE.public.verifies(bytes(96), b"message")


def test_two_persons_must_sign_and_nobody_counts_twice() -> None:
    people = [
        Signer(ADA.public, "ada", "author"),
        Signer(BOB.public, "ada", "reviewer"),  # the same person with another key
        Signer(EVE.public, "eve", "reviewer"),
        Signer(ACE.public, "ace", "author"),
    ]
    trust = Trust(people, require={"author": 1, "reviewer": 1})
    with pytest.raises(NotTrusted, match=r"signed by ada \(author\), ada \(reviewer\)"):
        trust.verify(sign(sign(PLAIN, ADA), BOB), name="any")
    assert trust.verify(sign(sign(PLAIN, ADA), EVE), name="any").identities == ("ada", "eve")
    assert trust.verify(sign(sign(PLAIN, ACE), BOB), name="any").identities == ("ace", "ada")
    everybody = sign(sign(sign(sign(PLAIN, ACE), BOB), ADA), EVE)
    assert len(trust.verify(everybody, name="any").identities) == 2
    two = Trust(people, require={"author": 2})
    with pytest.raises(NotTrusted, match="2 author"):
        two.verify(sign(PLAIN, ADA), name="any")
    assert two.verify(sign(sign(PLAIN, ADA), ACE), name="any").identities == ("ace", "ada")


def test_policies_that_nobody_can_fulfil_are_refused() -> None:
    signer = Signer(ADA.public, "ada")
    for wrong in (
        lambda: Trust([]),
        lambda: Trust(["ada"]),
        lambda: Trust([signer, signer]),
        lambda: Trust([signer], require={"reviewer": 1}),
        lambda: Trust([signer], require={"author": 2}),
        lambda: Trust([signer], require={"author": 0}),
        lambda: Trust([signer], review={"reviewer": 1}),
        lambda: Signer("key", "ada"),
        lambda: Signer(ADA.public, ""),
        lambda: Signer(ADA.public, "ada", ""),
    ):
        with pytest.raises(InvalidArgument):
            wrong()


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz")), max_size=12),
    st.dictionaries(st.sampled_from("xyz"), st.integers(1, 3), min_size=1),
)
def test_roles_are_filled_if_they_can_be(
    valid: list[tuple[str, str]], require: dict[str, int]
) -> None:
    found = chosen(valid, require)
    assert (found is not None) == possible(valid, [r for r, n in require.items() for _ in range(n)])
    if found is not None:
        assert len(found) == sum(require.values())
        for identity, role in found.items():
            assert (identity, role) in valid


def possible(valid: list[tuple[str, str]], places: list[str]) -> bool:
    """By trying everything."""
    if not places:
        return True
    return any(
        possible([v for v in valid if v[0] != identity], places[1:])
        for identity, role in set(valid)
        if role == places[0]
    )


def test_what_is_revoked_counts_no_more() -> None:
    signed = sign(PLAIN, ADA)
    with pytest.raises(NotTrusted, match="nobody known"):
        one(revoked=[ADA.public.id]).verify(signed, name="any")
    with pytest.raises(NotTrusted, match="revoked"):
        one(revoked=[hashlib.sha256(signed).hexdigest()]).verify(signed, name="any")


def test_lists_of_revocations_are_signed_and_never_get_older(tmp_path: Path) -> None:
    signed = sign(PLAIN, ADA)
    trust = one(revokers=[BOB.public], revoked=["0" * 64], floors=Floors(tmp_path / "floors"))
    trust.verify(signed, name="any")
    second = wasm.revoke([ADA.public.id], BOB, serial=2)
    assert trust.revoke(second).revoked == {ADA.public.id}
    with pytest.raises(NotTrusted, match="nobody known"):
        trust.verify(signed, name="any")
    trust.revoke(second)  # the same once more
    digest = hashlib.sha256(signed).hexdigest()
    trust.revoke(wasm.revoke([digest], BOB, serial=3))  # a whole one: the key counts again
    with pytest.raises(NotTrusted, match="revoked"):
        trust.verify(signed, name="any")
    # Neither this policy nor one after a restart takes an older one.
    again = one(revokers=[BOB.public], floors=Floors(tmp_path / "floors"))
    for each in (trust, again, one(revokers=[BOB.public])):
        if each is not again and each is not trust:
            each.revoke(wasm.revoke([], BOB, serial=3))
        with pytest.raises(NotTrusted, match="older than 3"):
            each.revoke(second)


def test_lists_of_revocations_that_are_none() -> None:
    trust = one(revokers=[BOB.public])
    good = wasm.revoke([ADA.public.id], BOB, serial=1)
    for broken in (
        b"",
        b"[]",
        b"{}",
        good.replace(b'"serial":1', b'"serial":2'),
        good.replace(b'"revoked":["', b'"revoked":["' + b"0" * 32 + b'","'),
        wasm.revoke([], EVE, serial=9),
        b" " * (5 << 20),
        b"[" * 100_000,
    ):
        with pytest.raises(NotTrusted, match="revocations"):
            trust.revoke(broken)
    with pytest.raises(InvalidArgument, match="revoked"):
        wasm.revoke(["ada"], BOB, serial=1)
    with pytest.raises(InvalidArgument, match="serial"):
        wasm.revoke([], BOB, serial=0)


def test_whoever_holds_lists_back_gains_nothing() -> None:
    trust = one(revokers=[BOB.public])
    signed = sign(PLAIN, ADA)
    ends = time.time() + 1000.0
    with pytest.raises(NotTrusted, match="expired"):
        trust.revoke(wasm.revoke([], BOB, serial=1, expires=1.0))
    trust.revoke(wasm.revoke([], BOB, serial=1, expires=ends))
    trust.verify(signed, name="any", now=ends - 1.0)
    with pytest.raises(NotTrusted, match="expired"):
        trust.verify(signed, name="any", now=ends)


def test_manifests_say_what_a_module_is() -> None:
    stated = wasm.with_manifest(IMPORTING, name="policy", version="1.2", svn=3)
    found = wasm.manifest_of(stated)
    assert found == Manifest(name="policy", version="1.2", svn=3, imports=("env.log",))
    assert wasm.manifest_of(PLAIN) is None
    again = wasm.with_manifest(sign(stated, ADA), Manifest(name="other"))
    assert wasm.manifest_of(again) == Manifest(name="other")
    trust = one()
    assert trust.verify(sign(stated, ADA), name="policy").manifest == found
    with pytest.raises(NotTrusted, match="'policy', not for 'other'"):
        trust.verify(sign(stated, ADA), name="other")
    with pytest.raises(NotTrusted, match="does not say"):
        trust.verify(sign(again, ADA), name="other")
    with pytest.raises(NotTrusted, match="no manifest, but imports"):
        trust.verify(sign(IMPORTING, ADA), name="any")
    with pytest.raises(NotTrusted, match="has no manifest"):
        one(manifest=True).verify(sign(PLAIN, ADA), name="any")
    old = sign(wasm.with_manifest(PLAIN, name="p", expires=1000.0), ADA)
    assert trust.verify(old, name="p", now=999.0)
    with pytest.raises(NotTrusted, match="expired"):
        trust.verify(old, name="p", now=1000.0)
    with pytest.raises(NotTrusted, match="expired"):
        trust.verify(old, name="p")


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b'{"name":5}', b'{"name":"a","more":1}', b"\xff", b"[" * 99999]
)
def test_manifests_that_cannot_be_read(payload: bytes) -> None:
    with pytest.raises(NotTrusted, match="manifest"):
        wasm.manifest_of(PLAIN + custom("hastack.manifest", payload))


def test_more_than_one_manifest_and_wrong_fields() -> None:
    twice = wasm.with_manifest(PLAIN, name="a") + custom("hastack.manifest", b"{}")
    with pytest.raises(NotTrusted, match="more than one"):
        wasm.manifest_of(twice)
    for wrong in ({"name": ""}, {"svn": -1}, {"version": 1}, {"imports": [1]}, {"expires": -1}):
        with pytest.raises(InvalidArgument):
            Manifest(**{"name": "a", **wrong})


def test_older_versions_are_refused_once_a_newer_one_was_accepted(tmp_path: Path) -> None:
    floors = Floors(tmp_path / "floors.json")
    trust = one(floors=floors)

    def version(svn: int) -> bytes:
        return sign(wasm.with_manifest(PLAIN, name="p", svn=svn), ADA)

    trust.accepted("p", trust.verify(version(2), name="p"))
    assert Floors(tmp_path / "floors.json").floor("p") == 2
    with pytest.raises(NotTrusted, match="security version 1; 2 was accepted"):
        trust.verify(version(1), name="p")
    with pytest.raises(NotTrusted, match="security version 0; 2"):
        trust.verify(sign(PLAIN, ADA), name="p")
    loose = one(floors=floors, rollback=True)
    with events.record(wasm.PluginRolledBack) as allowed:
        loose.accepted("p", loose.verify(version(1), name="p"))
    assert allowed[0].detail == "security version 1 was allowed; 2 was accepted before"
    assert floors.floor("p") == 2  # allowing it once lowers nothing
    floors.lower("p", 1)
    floors.lower("unknown", 1)
    trust.accepted("p", trust.verify(version(1), name="p"))
    trust.accepted("q", trust.verify(sign(PLAIN, ADA), name="q"))
    assert floors.floor("q") == 0
    one().accepted("p", trust.verify(version(1), name="p"))  # without floors: nothing to keep


def test_new_imports_take_a_review(tmp_path: Path) -> None:
    people = [Signer(ADA.public, "ada"), Signer(BOB.public, "bob", "reviewer")]
    floors = Floors(tmp_path / "floors.json")
    trust = Trust(people, floors=floors)
    first = sign(wasm.with_manifest(PLAIN, name="p", svn=1), ADA)
    trust.accepted("p", trust.verify(first, name="p"))
    assert trust.verify(first, name="p")
    update = sign(wasm.with_manifest(IMPORTING, name="p", svn=2), ADA)
    with pytest.raises(NotTrusted, match="1 author, 1 reviewer"):
        trust.verify(update, name="p")
    reviewed = sign(update, BOB)
    trust.accepted("p", trust.verify(reviewed, name="p"))
    assert floors.imports("p") == {"env.log"}
    assert trust.verify(update, name="p")  # no longer new


@pytest.mark.parametrize("broken", [b"", b"[]", b'{"p":{}}', b'{"p":{"svn":"1","imports":[]}}'])
def test_floors_that_cannot_be_read_let_nothing_pass(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "floors.json"
    path.write_bytes(broken)
    with pytest.raises(NotTrusted, match="cannot be read"):
        Floors(path)


def test_floors_survive_being_killed_at_any_write(tmp_path: Path) -> None:
    """Each run dies at another system call of the writing; what is there is old or new, whole."""
    path = tmp_path / "floors.json"
    Floors(path).rise("p", 1, ())
    script = """
import os, sys
from hastack.wasm import Floors
left = int(sys.argv[2])
def dying(real):
    def call(*a, **k):
        global left
        left -= 1
        if left < 0: os._exit(9)
        return real(*a, **k)
    return call
for name in ("open", "fsync", "replace", "close", "fdopen"):
    setattr(os, name, dying(getattr(os, name)))
Floors(sys.argv[1]).rise("p", 2, ("env.log",))
"""
    ends = []
    for left in range(0, 12, 2):
        Floors(path).lower("p", 1)
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), str(left)], check=False, timeout=50,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        ends.append((done.returncode, Floors(path).floor("p")))
    assert {svn for _, svn in ends} == {1, 2}
    assert all(svn == 2 for status, svn in ends if status == 0)
    assert ends[-1] == (0, 2)
