"""What an object may do: by the types of its programs, and by what a signed manifest allows."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from elf_images import EXIT, Image, Types, call, load_address

from hastack import ebpf
from hastack.ebpf._signing import verify
from hastack.errors import InvalidArgument, SignatureInvalid

READ_KERNEL, READ_USER, WRITE_USER, LOOKUP, TAIL_CALL = 113, 112, 36, 1, 12


def obj(*programs: tuple[str, bytes], extra: bytes = b"") -> ebpf.Spec:
    image = Image()
    for n, (section, code) in enumerate(programs):
        number = image.code(section, code + EXIT)
        image.symbol(f"p{n}", number, 0, len(code) + 16)
    if extra:
        image.code(".text", extra)
    return ebpf.open(image.build())


def refused(policy: ebpf.Policy, spec: ebpf.Spec) -> str:
    return "; ".join(policy.violations(spec))


@pytest.mark.parametrize(
    ("section", "helper", "reason"),
    [
        ("xdp", LOOKUP, ""),
        ("xdp", READ_KERNEL, "kernel memory is not for programs of type xdp"),
        ("cgroup_skb/egress", READ_USER, "user memory is not for programs of type cgroup_skb"),
        ("uprobe", READ_USER, ""),
        ("uprobe", READ_KERNEL, "kernel memory is not allowed"),
        ("uprobe", WRITE_USER, "denied to all"),
        ("fentry/x", 4000, "a helper that is not known"),
    ],
)
def test_the_default_is_by_type(section, helper, reason):
    found = refused(ebpf.Policy(), obj((section, call(helper))))
    assert (reason in found) if reason else not found
    assert not found or found.startswith("p0: bpf_")


def test_what_a_policy_allows():
    tracing, packets = obj(("uprobe", call(READ_KERNEL))), obj(("xdp", call(READ_KERNEL)))
    assert not refused(ebpf.Policy(kernel_memory=True), tracing)
    assert refused(ebpf.Policy(kernel_memory=True), packets)
    assert not refused(ebpf.Policy(helpers=["bpf_probe_read_kernel"]), packets)
    assert refused(ebpf.Policy(types=["uprobe"]), packets) == (
        "p0: type xdp is not accepted; "
        "p0: bpf_probe_read_kernel: kernel memory is not for programs of type xdp (xdp, instruction 0)"
    )
    assert "no known type" in refused(ebpf.Policy(), obj(("strange", b"")))
    kfunc = obj(("xdp", call(77, 2)))
    assert "a kernel function that is not allowed" in refused(ebpf.Policy(), kfunc)
    assert not refused(ebpf.Policy(kfuncs=["77"]), kfunc)


def test_code_that_no_program_reaches_is_looked_at():
    hidden = obj(("uprobe", b""), ("xdp", b""), extra=call(READ_KERNEL) + call(LOOKUP) + EXIT)
    found = refused(ebpf.Policy(kernel_memory=True), hidden)
    assert found.startswith("code that no program reaches: bpf_probe_read_kernel")


def test_jumps_into_arrays_of_others():
    t = Types()
    number = t.int("unsigned int", 4, 0)
    shape = t.compound("struct", "", 8, ("type", t.number(3, number), 0))
    variables = [t.add("var", name, shape, 1) for name in ("slots", "mine")]
    t.add("datasec", ".maps", 0, variables[0], 0, 8, variables[1], 8, 8, count=2)
    image = Image()
    code = image.code("xdp", load_address() + load_address() + call(TAIL_CALL) + EXIT)
    maps = image.add(".maps", bytes(16))
    image.add(".BTF", t.build())
    symbols = [image.symbol(n, maps, 8 * i, 8, info=0x11) for i, n in enumerate(("slots", "mine"))]
    image.symbol("p", code, 0, 56)
    image.relocate(code, (0, symbols[0]), (16, symbols[1]))
    spec = ebpf.open(image.build())
    assert not ebpf.Policy().violations(spec)
    assert ebpf.Policy().violations(spec, foreign=["slots"]) == (
        "p: jumps into slots, which others have made",
    )
    assert not ebpf.Policy(tail_calls=True).violations(spec, foreign=["slots"])


def pair(private) -> tuple[bytes, bytes]:
    return (
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


KEYS = {
    "ed25519": pair(ed25519.Ed25519PrivateKey.generate()),
    "ecdsa-p384-sha384": pair(ec.generate_private_key(ec.SECP384R1())),
}
OTHER = pair(ed25519.Ed25519PrivateKey.generate())


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_signature_is_for_one_object_and_one_manifest(algorithm):
    private, public = KEYS[algorithm]
    signature = ebpf.sign(b"object", private, manifest={"helpers": ["bpf_send_signal"]})
    assert json.loads(signature)["algorithm"] == algorithm
    keys = [OTHER[1], public]
    assert verify(b"object", signature, keys) == {"helpers": ["bpf_send_signal"]}
    for content, held, trusted in (
        (b"another", signature, keys),
        (b"object", signature, [OTHER[1]]),
        (b"object", signature, []),
        (b"object", signature.replace(b"send_signal", b"override_return"), keys),
        (b"object", ebpf.sign(b"object", OTHER[0]), [public]),
    ):
        with pytest.raises(SignatureInvalid, match="no trusted key"):
            verify(content, held, trusted)


@pytest.mark.parametrize(
    "broken",
    [b"", b"[]", b"{}", b"\xff", b"[" * 5000, b'{"manifest": 1, "signature": "", "format": 1}'],
)
def test_a_broken_signature_file(broken):
    with pytest.raises(SignatureInvalid, match="is broken"):
        verify(b"object", broken, [OTHER[1]])


def test_a_signature_file_that_is_too_large():
    with pytest.raises(SignatureInvalid, match="too large"):
        verify(b"object", b" " * (2 << 20), [OTHER[1]])


def test_keys_and_manifests_that_are_none():
    private, public = KEYS["ed25519"]
    with pytest.raises(InvalidArgument, match="a private key in PEM"):
        ebpf.sign(b"object", b"no key")
    with pytest.raises(InvalidArgument, match="Ed25519 or P-384"):
        ebpf.sign(b"object", pair(rsa.generate_private_key(65537, 2048))[0])
    with pytest.raises(InvalidArgument, match="Ed25519 or P-384"):
        ebpf.sign(b"object", pair(ec.generate_private_key(ec.SECP256R1()))[0])
    for manifest, match in (
        ({"nope": 1}, r"manifest\.nope=1"),
        ({"helpers": "bpf_send_signal"}, "a list of names"),
        ({"kernel_memory": 1}, "true or false"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            ebpf.sign(b"object", private, manifest=manifest)
    signature = ebpf.sign(b"object", private)
    with pytest.raises(InvalidArgument, match="public keys in PEM"):
        verify(b"object", signature, [b"no key"])
    # Signed by a trusted key, and still nonsense.
    from hastack.ebpf import _signing

    held = json.loads(signature)
    held["manifest"] = {"helpers": 5}
    key = serialization.load_pem_private_key(private, None)
    message = _signing._message(b"object", _signing._canonical(held["manifest"]))
    import base64

    held["signature"] = base64.b64encode(key.sign(message)).decode()
    with pytest.raises(SignatureInvalid, match="the manifest is broken"):
        verify(b"object", json.dumps(held).encode(), [public])


def test_strict_loading_asks_for_a_signature():
    private, public = KEYS["ed25519"]
    with pytest.raises(SignatureInvalid, match="not signed"):
        ebpf.Strict(keys=[public]).check(b"object", None)
    plain = ebpf.Strict(allow_unsigned=True)
    assert plain.check(b"object", None) == plain.policy
    strict = ebpf.Strict(keys=[public], policy=ebpf.Policy(helpers=["bpf_sys_bpf"]))
    manifest = {"kernel_memory": True, "helpers": ["bpf_send_signal"], "types": ["xdp"]}
    policy = strict.check(b"object", ebpf.sign(b"object", private, manifest=manifest))
    assert policy == ebpf.Policy(
        kernel_memory=True, helpers=["bpf_send_signal", "bpf_sys_bpf"], types=["xdp"]
    )
