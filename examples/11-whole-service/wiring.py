"""What both services of the shop are made of, wired from one hastack.toml."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import attrs
import grpc.aio

from hastack import config, discovery, observe, ratelimit
from hastack.config import Config  # noqa: F401  # for commands that read the file
from hastack.contrib.grpc_aio import client_interceptors
from hastack.contrib.grpc_balance import aio_channel
from hastack.discovery.balance import Balancer
from hastack.health import Health
from hastack.lifecycle import Lifecycle


@attrs.frozen(kw_only=True)
class Shop:
    """The shop's own table."""

    logs: Path = config.setting(Path("logs"), help="Where access logs are written.")  # noqa: RUF009


config.section("shop", Shop)  # now every Config has it: hastack doctor --into wiring:Config


class Wiring:
    """One process: its settings, its life, its telemetry, and where it finds the others."""

    def __init__(self, service: str, path: str) -> None:
        logging.basicConfig(level=logging.INFO, format=f"{service} {os.getpid()}: %(message)s")
        self.watched = config.watch(path, period=0.2)
        settings = self.watched.current
        self.shop: Shop = settings.sections["shop"]
        self.life = Lifecycle(service, **attrs.asdict(settings.lifecycle))
        self.health = Health(service, lifecycle=self.life, **attrs.asdict(settings.health))
        self.registry = discovery.connect(**attrs.asdict(settings.discovery, recurse=False))
        self.observed = observe.install(
            attrs.evolve(
                settings.sections["observe"],
                service=service,
                resource={"service.instance.id": f"{service}-{os.getpid()}"},
            )
        )
        self.observed.follow(self.watched)
        # Those that need it stop before it: what they say on their way out is delivered as well.
        self.life.add(self.observed)
        self.life.add("registry", stop=self.registry.aclose, depends_on=["observe"])

    def guard(self, name: str, **options: object) -> ratelimit.Shadow:
        """The guard that the file calls ``name``: follows it, and keeps what it has counted."""
        return ratelimit.live(self.watched, name, **options)

    def offer(self, address: str, probe: discovery.Probe, server: str) -> None:
        """Register this instance while it is well and serves; gone before ``server`` is."""
        registration = self.registry.register(
            self.life.name,
            address,
            ttl=2.0,
            lifecycle=self.life,
            health=discovery.Health(probe, interval=0.5, timeout=2.0, recover_after=1),
        )
        self.life.add(registration, depends_on=[server, "registry"])

    def channel_to(self, service: str) -> grpc.aio.Channel:
        """Calls to whichever instance is best; they carry deadline and trace along."""

        def connect(address: str) -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(address, interceptors=client_interceptors())

        return aio_channel(Balancer(service).follow(self.registry), connect=connect)
