"""A service whose limit follows its configuration file."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import attrs

from hastack import config, events, ratelimit

HERE = Path(__file__).parent


@attrs.frozen(kw_only=True)
class Checkout:
    """The checkout."""

    timeout: config.Seconds = config.setting(1.0, above=0.0, help="Time for one order.")  # noqa: RUF009
    token: config.Secret = config.setting(help="Token of the payment provider.")  # noqa: RUF009


@attrs.frozen(kw_only=True)
class Shop:
    """The whole service."""

    checkout: Checkout
    hastack: config.Config = attrs.field(factory=config.Config)


def replace(path: Path, old: str, new: str) -> None:
    """Write a new file and rename it over the old one, as deployments should."""
    fresh = path.with_suffix(".new")
    fresh.write_text(path.read_text().replace(old, new))
    fresh.replace(path)


def main() -> list[float]:
    logging.basicConfig(level=logging.CRITICAL)  # mistakes are printed below instead
    sizes: list[float] = []
    happened = events.Queue[events.Event]()
    end = events.subscribe(happened, ratelimit.GuardReloaded, config.ConfigReloadFailed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(HERE / "shop.toml", folder))
        with config.watch(path, into=Shop, env=os.environ, env_prefix="SHOP_", period=0.05) as shop:
            orders = ratelimit.live(shop, "orders")  # follows the file from here on
            print("started with", shop.current.checkout)
            with orders:  # an order under way all the time: it stays counted
                for old, new in (("10", "20"), ("limit = 20", "limit = 0"), ("= 0", "= 30")):
                    replace(path, old, new)
                    event = happened.get(timeout=10.0)
                    if isinstance(event, config.ConfigReloadFailed):
                        print("kept", int(orders.limit), "because of:")
                        for mistake in event.mistakes:
                            print("   ", str(mistake).replace(folder, ""))
                    else:
                        print("now", int(orders.limit), "with", orders.in_flight(), "under way")
                        sizes.append(orders.limit)
    end()
    return sizes


if __name__ == "__main__":
    main()
