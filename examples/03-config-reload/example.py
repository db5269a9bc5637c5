"""A service whose limit follows its configuration file."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import attrs

from hastack import config, events

HERE = Path(__file__).parent


@attrs.frozen(kw_only=True)
class Checkout:
    """The checkout."""

    max_orders: int = config.setting(5, minimum=1, help="Orders at once.")
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


def main() -> list[int]:
    logging.basicConfig(level=logging.CRITICAL)  # mistakes are printed below instead
    sizes: list[int] = []
    happened = events.Queue[events.Event]()
    end = events.subscribe(happened, config.ConfigReloaded, config.ConfigReloadFailed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(HERE / "shop.toml", folder))
        with config.watch(path, into=Shop, env=os.environ, env_prefix="SHOP_", period=0.05) as shop:
            shop.subscribe(lambda _, new: sizes.append(new.checkout.max_orders))
            print("started with", shop.current.checkout)
            for old, new in (("10", "20"), ("max_orders = 20", "max_orders = 0"), ("= 0", "= 30")):
                replace(path, old, new)
                event = happened.get(timeout=10.0)
                if isinstance(event, config.ConfigReloadFailed):
                    print("kept", shop.current.checkout.max_orders, "because of:")
                    for mistake in event.mistakes:
                        print("   ", str(mistake).replace(folder, ""))
                else:
                    print("now", shop.current.checkout.max_orders)
    end()
    return sizes


if __name__ == "__main__":
    main()
