"""Flask: rules for the whole application, and a decorator for one view.

python examples/12-http-limits/flask_app.py
"""

from flask import Flask
from shop_rules import PROXIES, rules

from hastack import ratelimit
from hastack.contrib.flask import RateLimits, limit
from hastack.contrib.http_limits import by_client

app = Flask("shop")
RateLimits(app, rules=rules(), proxies=PROXIES)


@app.get("/orders/<int:number>")
def order(number: int) -> dict[str, int]:
    return {"order": number}


@app.get("/search")
@limit(ratelimit.SlidingWindowLog("2 per 10 s", name="search"), key=by_client())
def find() -> dict[str, list[str]]:
    return {"found": []}


@app.get("/reports/<name>")
def report(name: str) -> dict[str, str]:
    return {"report": name}


@app.post("/login")
def login() -> dict[str, str]:
    return {"hello": "ada"}


@app.put("/photos")
def upload() -> dict[str, bool]:
    return {"stored": True}


if __name__ == "__main__":
    app.run(port=8000)
