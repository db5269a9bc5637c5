"""The rules of a shop, which know nothing of the framework that asks them."""

from hastack import ratelimit
from hastack.contrib.http_limits import BodyCost, Rule, TrustedProxies, by_client, by_header

# Only what stands in these networks may say who the client is.
PROXIES = TrustedProxies("127.0.0.0/8", "10.0.0.0/8")


def rules() -> list[Rule]:
    return [
        # Everybody: ten at once, five a second in the long run.
        Rule(ratelimit.TokenBucket("5/s", burst=10, name="clients"), key=by_client()),
        # Guessing passwords: three tries, then one in twenty seconds.
        Rule(
            ratelimit.TokenBucket("3/min", name="logins"),
            key=by_client(),
            methods=["POST"],
            path="/login",
        ),
        # Uploads pay by weight, a permit for each KiB.
        Rule(
            ratelimit.TokenBucket("64/s", burst=256, name="uploads"),
            key=by_header("x-api-key", otherwise=by_client()),
            cost=BodyCost(per=1024, unknown=64),
            methods=["PUT"],
        ),
        # Reports are expensive: two at a time, whoever asks.
        Rule(ratelimit.ConcurrencyLimit(2, name="reports"), path="/reports/{name}"),
        # Not in force yet: what it would refuse is an event (see docs/events.md).
        Rule(ratelimit.TokenBucket("1/s", burst=2, name="stricter"), key=by_client(), shadow=True),
    ]
