"""Passwords, tokens and certificates against real servers, both versions."""

from __future__ import annotations

import asyncio

import pytest
from certificates import Authority

from hastack.discovery import etcd
from hastack.discovery.etcd import _wire
from hastack.errors import InvalidArgument, NotAuthorized, StoreError, StoreUnavailable

BOUND = 40.0  # seconds; ends what hangs


def bounded(main):
    async def run():
        async with asyncio.timeout(BOUND):
            return await main()

    return asyncio.run(run())


async def with_users(client):
    """Root and a user who may read and write under ``mine/``, and asking for passwords."""
    auth = client.auth
    await auth.add_user("root", "root's")
    await auth.add_role("root")
    await auth.grant_role("root", "root")
    await auth.add_user("ada", "ada's")
    await auth.add_role("writer")
    await auth.grant("writer", "readwrite", "mine/", prefix=True)
    await auth.grant_role("ada", "writer")
    await auth.enable()


@pytest.fixture
def guarded(make_etcd, etcd_binary):
    """A server that asks for passwords."""
    server = make_etcd(binary=etcd_binary)

    async def main():
        async with etcd.Client(server.endpoint) as client:
            await with_users(client)

    bounded(main)
    return server


def as_ada(server, **options):
    return etcd.Client(server.endpoint, user="ada", password="ada's", **options)


def as_root(server):
    return etcd.connect(f"etcd://root:root's@{server.endpoint}")


def test_a_user_may_what_the_role_may(guarded):
    async def main():
        async with as_ada(guarded) as client:
            await client.put("mine/k", "v")
            assert (await client.get("mine/k")).value == b"v"
            with pytest.raises(NotAuthorized, match="permission denied") as info:
                await client.put("other", "v")
            assert isinstance(info.value, PermissionError)
            assert info.value.code == "PERMISSION_DENIED"
            assert (await client.identity()).cluster
        async with as_ada(guarded, namespace="mine/") as inside:
            assert (await inside.get("k")).value == b"v"
            assert (await inside.identity()).revision == 2

    bounded(main)


def test_who_is_not_known_is_told_so(guarded):
    async def main():
        for options in ({}, {"user": "ada", "password": "wrong"}, {"user": "x", "password": "y"}):
            async with etcd.Client(guarded.endpoint, **options) as client:
                with pytest.raises(NotAuthorized) as info:
                    await client.get("mine/k")
                assert "wrong" not in str(info.value)
                with pytest.raises(StoreError):
                    await client.put("mine/k", "v")

    bounded(main)


def test_a_token_that_expires_is_renewed(make_etcd, etcd_binary):
    server = make_etcd(binary=etcd_binary, options=("--auth-token-ttl", "1"))
    create = _wire.WatchRequest(
        create_request=_wire.WatchCreateRequest(key=b"mine/", range_end=b"mine0")
    )

    async def first_answer(transport):
        stream = await transport.stream(_wire.WATCH)
        await stream.write(create)
        return await stream.read()

    async def main():
        async with etcd.Client(server.endpoint) as client:
            await with_users(client)
        async with as_ada(server) as client, as_ada(server) as other:
            await client.put("mine/k", "1")
            await other.put("mine/other", "1")
            token = client._shared.metadata
            await asyncio.sleep(2.2)
            await asyncio.gather(*(client.put(f"mine/{n}", "2") for n in range(20)))
            assert client._shared.metadata != token
            assert (await client.range("mine/", prefix=True)).count == 22
            assert (await client.get("mine/0")).version == 1
            # A watch is refused by its first answer; told so, the next one has a new token.
            transport = other._transport()
            token = other._shared.metadata
            answer = await first_answer(transport)
            assert answer.canceled
            transport.forget_token()
            answer = await first_answer(transport)
            assert answer.created
            assert not answer.canceled
            assert other._shared.metadata != token

    bounded(main)


def test_a_password_that_changes_and_a_cluster_that_stops_asking(guarded):
    async def main():
        async with as_ada(guarded) as ada, as_root(guarded) as root:
            await ada.put("mine/k", "1")
            await root.auth.change_password("ada", "new")
            with pytest.raises(NotAuthorized, match="authentication failed"):
                await ada.put("mine/k", "2")
            await root.auth.disable()
            await ada.put("mine/k", "3")
            assert ada._shared.metadata == ()
            await root.auth.change_password("ada", "ada's")
            await root.auth.enable()
            await ada.put("mine/k", "4")
            assert (await ada.get("mine/k")).value == b"4"

    bounded(main)


def test_users_and_roles_can_be_looked_after(guarded):
    async def main():
        async with as_root(guarded) as client:
            auth = client.auth
            assert await auth.users() == ("ada", "root")
            assert await auth.roles_of("ada") == ("writer",)
            assert await auth.roles() == ("root", "writer")
            await auth.grant("writer", "read", "one")
            permissions = await auth.permissions("writer")
            assert {(p.kind, p.key, p.end) for p in permissions} == {
                ("readwrite", b"mine/", b"mine0"),
                ("read", b"one", b""),
            }
            with pytest.raises(InvalidArgument, match="kind='own'"):
                await auth.grant("writer", "own", "x")
            await auth.revoke("writer", "one")
            assert len(await auth.permissions("writer")) == 1
            await auth.add_user("certified")
            await auth.revoke_role("ada", "writer")
            await auth.delete_user("ada")
            await auth.delete_role("writer")
            assert await auth.users() == ("certified", "root")
            with pytest.raises(StoreError, match="role name not found"):
                await auth.grant_role("root", "writer")

    bounded(main)


class TestCertificates:
    @pytest.fixture
    def authority(self, tmp_path):
        return Authority(tmp_path / "tls")

    @pytest.fixture
    def secured(self, make_etcd, etcd_binary, authority):
        """Starts a server with TLS, by default without asking for clients' certificates."""
        cert, key = authority.issue("server")

        def start(*options):
            files = ("--cert-file", str(cert), "--key-file", str(key), *options)
            return make_etcd(binary=etcd_binary, options=files, tls=True)

        return start

    def test_the_server_must_be_the_right_one(self, secured, authority, tmp_path):
        server = secured()
        stranger = Authority(tmp_path / "other", "stranger")

        async def main():
            tls = etcd.TLS(ca=authority.pem)
            async with etcd.Client(server.endpoint, tls=tls) as client:
                await client.put("k", "v")
                assert client.url.startswith("etcds://")
            address = f"https://localhost:{server.port}"
            async with etcd.Client(address, tls=tls) as client:
                assert (await client.get("k")).value == b"v"

            async def refused(wrong):
                async with wrong as client:
                    with pytest.raises(StoreUnavailable):
                        await client.get("k")

            wrongs = (
                etcd.Client(server.endpoint, tls=etcd.TLS(ca=stranger.pem), timeout=1.0),
                etcd.Client(server.endpoint, tls=True, timeout=1.0),
                etcd.Client(
                    server.endpoint, tls=etcd.TLS(ca=authority.pem, server_name="x"), timeout=1.0
                ),
                etcd.Client(server.endpoint, timeout=1.0),
            )
            await asyncio.gather(*map(refused, wrongs))

        bounded(main)

    def test_and_so_must_the_client_where_the_server_asks(self, secured, authority):
        server = secured("--client-cert-auth", "--trusted-ca-file", str(authority.path))
        cert, key = authority.issue("ada")

        async def main():
            tls = etcd.TLS(ca=authority.pem, cert=cert.read_bytes(), key=key.read_bytes())
            async with etcd.Client(server.endpoint, tls=tls) as client:
                await client.put("k", "v")
                assert (await client.get("k")).value == b"v"
            anonymous = etcd.TLS(ca=authority.pem)
            async with etcd.Client(server.endpoint, tls=anonymous, timeout=1.0) as client:
                with pytest.raises(StoreUnavailable):
                    await client.get("k")

        bounded(main)

    def test_passwords_over_tls(self, secured, authority):
        server = secured()
        tls = etcd.TLS(ca=authority.pem)

        async def main():
            async with etcd.Client(server.endpoint, tls=tls) as client:
                await with_users(client)
            async with as_ada(server, tls=tls) as client:
                await client.put("mine/k", "v")
                with pytest.raises(NotAuthorized):
                    await client.get("other")

        bounded(main)
