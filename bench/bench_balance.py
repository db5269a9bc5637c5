"""What choosing an instance costs, by policy and number of instances.

usage: python bench/bench_balance.py
"""

import itertools
import random

from harness import ns_per_call, table

from hastack.discovery import Instance
from hastack.discovery.balance import (
    Balancer,
    ConsistentHash,
    LeastLoaded,
    LocalityFirst,
    RoundRobin,
    WeightedRoundRobin,
)

POLICIES = [
    RoundRobin(),
    WeightedRoundRobin(),
    LeastLoaded(),
    ConsistentHash(),
    LocalityFirst(zone="a"),
]


def instances(count):
    return [
        Instance(service="s", id=f"i{n}", address=f"h{n}:80", zone="ab"[n % 2])
        for n in range(count)
    ]


def call(balancer, key):
    def run():
        with balancer.pick(key=key):
            pass

    return run


def main():
    for count in (10, 1000):
        members = instances(count)
        turns = itertools.cycle(members)
        rows = {
            "itertools.cycle": ns_per_call(lambda turns=turns: next(turns)),
            "random.choice": ns_per_call(lambda members=members: random.choice(members)),
        }
        for policy in POLICIES:
            name = type(policy).__name__
            for label, options in ((name, {}), (f"{name}, outlier=None", {"outlier": None})):
                balancer = Balancer("s", policy=policy, **options)
                balancer.update(members)
                key = "user-7" if isinstance(policy, ConsistentHash) else None
                rows[label] = ns_per_call(call(balancer, key), number=5000)
        table(f"pick and report, {count} instances", rows, base="random.choice")


if __name__ == "__main__":
    main()
