"""hastack beside other packages that bring etcd's messages, imported before it and after it.

Each of them fills protobuf's default pool, and most cannot be imported beside each other.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from peers import NoPeers, directory

BOUND = 40.0  # seconds; ends what hangs

USES = {
    "etcd3gw": """
        import etcd3gw
        host, _, port = sys.argv[1].rpartition(":")
        def other():
            client = etcd3gw.client(host, int(port), api_path="/v3/")
            client.put("other", "v")
            assert client.get("other") == [b"v"]
        """,
    "aetcd": """
        import aetcd
        host, _, port = sys.argv[1].rpartition(":")
        async def use():
            async with aetcd.Client(host, int(port)) as client:
                await client.put(b"other", b"v")
                assert (await client.get(b"other")).value == b"v"
        def other(): asyncio.run(use())
        """,
    "etcetra": """
        import etcetra
        host, _, port = sys.argv[1].rpartition(":")
        async def use():
            client = etcetra.EtcdClient(etcetra.HostPortPair(host, int(port)))
            async with client.connect() as communicator:
                await communicator.put("other", "v")
                assert await communicator.get("other") == "v"
        def other(): asyncio.run(use())
        """,
    "etcd3aio": """
        import etcd3aio
        async def use():
            async with etcd3aio.Etcd3Client([sys.argv[1]]) as client:
                await client.kv.put(b"other", b"v")
                assert (await client.kv.get(b"other")).kvs[0].value == b"v"
        def other(): asyncio.run(use())
        """,
    "xds-protos": """
        from envoy.service.discovery.v3 import discovery_pb2
        from envoy.config.cluster.v3 import cluster_pb2
        def other():
            cluster = cluster_pb2.Cluster(name="c")
            answer = discovery_pb2.DiscoveryResponse()
            answer.resources.add().Pack(cluster)
            assert answer.resources[0].type_url.endswith("envoy.config.cluster.v3.Cluster")
        """,
    "opentelemetry-proto": """
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
        def other():
            assert trace_service_pb2.ExportTraceServiceRequest().SerializeToString() == b""
        """,
}

OURS = """
        from hastack.discovery import Put, etcd
        def ours():
            client = etcd.Client(sys.argv[1])
            with client.sync as sync:
                sync.put("k", "v")
                assert sync.get("k").value == b"v"
                assert sync.txn([], [Put("k", "w", prev=True)]).results[0].prev.value == b"v"
            asyncio.run(again())
        async def again():
            async with etcd.Client(sys.argv[1]) as client:
                assert (await client.get("k")).value == b"w"
        """


@pytest.fixture(scope="module")
def peers():
    try:
        return directory()
    except NoPeers as error:
        pytest.skip(f"the peers cannot be installed: {error}")


@pytest.mark.timeout(600)  # the first run installs them
@pytest.mark.parametrize("shared_etcd", ["3.4"], indirect=True)
@pytest.mark.parametrize("peer", USES)
def test_both_work_whoever_comes_first(shared_etcd, peers, peer):
    use, ours = textwrap.dedent(USES[peer]), textwrap.dedent(OURS)
    for imports in (
        use + ours + "ours(); other(); ours()",
        ours + "ours()\n" + use + "other(); ours()",
    ):
        code = f"import asyncio, sys\nsys.path.append({str(peers)!r})\n{imports}"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, shared_etcd.endpoint],
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )
        assert done.returncode == 0, done.stderr
