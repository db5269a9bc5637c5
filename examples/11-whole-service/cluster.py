"""The whole shop on this machine: three order services, one inventory, one store, one policy.

usage: cluster.py    runs until Ctrl-C
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from backends import Collector, Embedded, Etcd

from hastack import discovery, wasm

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
START_WITHIN = 120.0


class Cluster:
    """The processes, and the folder with all that they share.

    Args:
        folder: For configuration, policy, logs and whatever else is written.
        store: Where instances register; started here.
        collector: Where telemetry goes.
        metrics: URL of a Prometheus that takes remote writes, if there is one.
    """

    def __init__(
        self, folder: Path, store: Embedded | Etcd, collector: Collector, metrics: str | None = None
    ) -> None:
        self.folder = folder
        self.store = store
        self.owner = wasm.PrivateKey.generate()
        self.config = folder / "hastack.toml"
        self.inventory: subprocess.Popen[bytes] | None = None
        self.orders: list[subprocess.Popen[bytes]] = []
        store.start()
        self.registry = discovery.connect(store.url)
        settings = (HERE / "hastack.toml").read_text()
        settings = settings.replace("memory:///run/shop/store", store.url)
        settings = settings.replace("http://127.0.0.1:4318", collector.url)
        if metrics is not None:
            settings += "\n[observe.backends.prometheus]\n"
            settings += f'kind = "remote-write"\nendpoint = "{metrics}"\n'
        self.configure(settings.replace("/run/shop", str(folder)))
        (folder / "signer.pem").write_bytes(self.owner.public.to_pem())
        self.push(self.policy(1))

    def configure(self, text: str) -> None:
        """Replace the configuration, as a deployment does: a whole file, renamed into place."""
        replace(self.config, text.encode())

    def policy(self, version: int, *, key: wasm.PrivateKey | None = None, first: str = "") -> bytes:
        """The policy, built from its source and signed; ``first`` is code to be run first."""
        module = wasm.wat((HERE / "policy.wat").read_text().replace(";; first", first))
        return wasm.sign(wasm.with_manifest(module, name="policy", svn=version), key or self.owner)

    def push(self, module: bytes) -> None:
        """Offer a policy to all instances."""
        (self.folder / "plugins").mkdir(exist_ok=True)
        replace(self.folder / "plugins" / "policy.wasm", module)

    def run(self, program: str) -> subprocess.Popen[bytes]:
        """Start one of the services."""
        with (self.folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(HERE / f"{program}.py"), str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def add_orders(self) -> None:
        """One more order service."""
        self.orders.append(self.run("orders"))

    async def start(self) -> None:
        """Inventory and three order services; returns when all of them are registered."""
        self.inventory = self.run("inventory")
        for _ in range(3):
            self.add_orders()
        await self.until("inventory", 1)
        await self.until("orders", 3)

    async def until(self, service: str, count: int) -> list[discovery.Instance]:
        """Wait until exactly so many instances take calls: those."""
        found: list[discovery.Instance] = []

        def there() -> bool:
            self.require_alive()
            known = self.registry.resolve(service).instances
            found[:] = [each for each in known if not each.draining]
            return len(found) == count

        await self.registry.resolve_async(service, timeout=START_WITHIN)  # from now on at hand
        await wait_until(there)
        return found

    def require_alive(self) -> None:
        """Raise, with the last words of all, when a service ended that nobody killed."""
        for each in (self.inventory, *self.orders):
            if each is not None and each.poll() is not None:
                logs = sorted(self.folder.glob("*.log"))
                said = "".join(f"\n--- {log.name}\n{log.read_text()[-3000:]}" for log in logs)
                raise RuntimeError(f"{each.args[1]} ended with status {each.returncode}{said}")

    async def stop(self) -> None:
        """SIGTERM to all, the inventory and the store last. What does not end is killed."""
        for group in (self.orders, [self.inventory]):
            running = [each for each in group if each is not None and each.poll() is None]
            for each in running:
                each.terminate()
            for each in running:
                try:
                    await asyncio.to_thread(each.wait, 20.0)
                except subprocess.TimeoutExpired:
                    each.kill()
                    each.wait()
        await self.registry.aclose()
        self.store.stop()


async def wait_until(condition: Callable[[], bool], within: float = START_WITHIN) -> None:
    """Look now and then."""
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {within:g} s")
        await asyncio.sleep(0.05)


def replace(path: Path, content: bytes) -> None:
    """Write a new file and rename it over the old one."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)


async def main() -> None:
    collector = Collector()
    with tempfile.TemporaryDirectory(prefix="shop-") as name:
        cluster = Cluster(Path(name), Embedded(Path(name)), collector)
        end = asyncio.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, end.set)
        try:
            await cluster.start()
            for each in await cluster.until("orders", 3):
                print("orders:", f"http://{each.address}")
            print("configuration:", cluster.config, flush=True)
            await end.wait()
        finally:
            await cluster.stop()
            collector.close()


if __name__ == "__main__":
    asyncio.run(main())
