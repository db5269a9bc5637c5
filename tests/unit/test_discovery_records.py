"""Keys, records and instances: what they accept, and that nothing is lost on the way."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hastack import discovery
from hastack.discovery import Compare, Delete, Instance, Put, _layout
from hastack.discovery._instance import MalformedInstance
from hastack.discovery._records import as_bytes, prefix_end
from hastack.errors import InvalidArgument

names = st.text(min_size=1).filter(lambda s: s.encode("utf-8", "replace").decode() == s)
PLACE = {"service": "s", "id": "1", "namespace": "n", "origin": "o"}


@given(st.binary(max_size=8), st.binary(max_size=4))
def test_a_prefix_ends_after_everything_that_begins_with_it(prefix, rest):
    end = prefix_end(prefix)
    assert prefix + rest >= prefix
    assert end == b"\0" or prefix + rest < end
    if end != b"\0":
        assert not end.startswith(prefix)


def test_the_package_names_what_it_has():
    assert set(discovery.__all__) <= set(dir(discovery))
    assert discovery.Store.__name__ == "Store"
    with pytest.raises(AttributeError, match="nothing"):
        discovery.nothing  # noqa: B018  # the look-up is the test


def test_text_is_utf8_and_anything_else_is_named():
    assert as_bytes("key", "é") == "é".encode()
    assert Put("k", "v") == Put(b"k", b"v")
    assert Delete("k").key == b"k"
    with pytest.raises(InvalidArgument, match="key=3"):
        Put(3, b"")
    with pytest.raises(InvalidArgument, match="value=None"):
        Put("k", None)


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        (("k", "size", "==", 1), "target"),
        (("k", "version", "=", 1), "relation"),
        (("k", "version", "==", b"1"), "value"),
        (("k", "version", "==", True), "value"),
        (("k", "value", "==", 1), "value"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(arguments, parameter):
    with pytest.raises(InvalidArgument) as caught:
        Compare(*arguments)
    assert caught.value.parameter == parameter


def test_present_and_absent():
    assert Compare.present("k") == Compare(b"k", "version", ">", 0)
    assert Compare.absent("k") == Compare(b"k", "version", "==", 0)


@given(names, names, names, names, st.sampled_from(["reg", "mir"]))
def test_a_key_can_be_taken_apart_again(origin, namespace, service, instance, area):
    key = _layout.InstanceKey(area, origin, namespace, service, instance)
    assert _layout.InstanceKey.parse(key.to_bytes()) == key
    assert key.to_bytes().startswith(_layout.service_prefix(area, origin, namespace, service))
    assert key.to_bytes().startswith(_layout.origin_prefix(area, origin))


@given(names, names)
def test_a_prefix_never_cuts_a_name_in_two(one, other):
    if one != other:
        inside = _layout.service_prefix("reg", "o", "n", one)
        assert not _layout.service_prefix("reg", "o", "n", other).startswith(inside)
    assert _layout.origin_of_heartbeat(_layout.heartbeat(one)) == one
    assert _layout.checkpoint(one) != _layout.heartbeat(one)


@pytest.mark.parametrize(
    "key",
    [
        b"/other",
        b"/hs/1/reg/o/n/s",
        b"/hs/1/reg/o/n//i",
        b"/hs/1/mir/%ff/n/s/i",
        b"/hs/1/reg/\xff/n/s/i",
    ],
)
def test_what_is_no_instance_key_is_none(key):
    assert _layout.InstanceKey.parse(key) is None


def test_a_part_of_a_key_needs_a_name():
    with pytest.raises(InvalidArgument, match="service"):
        _layout.service_prefix("reg", "o", "n", "")


@given(
    st.builds(
        Instance,
        service=st.just("s"),
        id=st.just("1"),
        namespace=st.just("n"),
        origin=st.just("o"),
        address=names,
        metadata=st.dictionaries(names, names, max_size=3),
        weight=st.floats(0, 1e6),
        zone=st.one_of(st.just(""), names),
        draining=st.booleans(),
        home=st.sampled_from(["", "eu"]),
        incarnation=st.integers(0, 2**64 - 1),
    )
)
def test_an_instance_survives_storage_and_pickling(instance):
    assert Instance.parse(instance.to_bytes(), **PLACE) == instance
    assert pickle.loads(pickle.dumps(instance)) == instance
    assert hash(instance) == hash(pickle.loads(pickle.dumps(instance)))


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (b"", "Expecting value"),
        (b"[]", "not an object with an address"),
        (b"{}", "not an object with an address"),
        (b'{"address":1}', "address is 1"),
        (b'{"address":"a","draining":1}', "draining is 1"),
        (b'{"address":"a","incarnation":true}', "incarnation is True"),
        (b'{"address":"a","weight":-1}', "weight"),
        (b'{"address":"a","metadata":{"a":1}}', "metadata"),
        (b"\xff", "utf-8"),
    ],
)
def test_malformed_bytes_say_what_is_wrong(stored, said):
    with pytest.raises(MalformedInstance, match=said):
        Instance.parse(stored, **PLACE)


def test_members_of_a_later_version_are_passed_over():
    stored = b'{"address":"a","colour":"blue"}'
    assert Instance.parse(stored, **PLACE).address == "a"


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"service": ""}, "service"),
        ({"address": 3}, "address"),
        ({"weight": -1.0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"metadata": {"a": 1}}, "metadata"),
    ],
)
def test_a_bad_instance_is_refused(change, parameter):
    with pytest.raises(InvalidArgument) as caught:
        Instance(**{"service": "s", "id": "1", "address": "a", **change})
    assert caught.value.parameter == parameter
