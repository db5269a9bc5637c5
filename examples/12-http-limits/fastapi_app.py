"""FastAPI: rules for the whole application, and a limit for one endpoint.

python examples/12-http-limits/fastapi_app.py
"""

from fastapi import Depends, FastAPI
from shop_rules import PROXIES, rules

from hastack import ratelimit
from hastack.contrib.asgi import ContextMiddleware, RateLimitMiddleware
from hastack.contrib.http_limits import by_client
from hastack.contrib.starlette import Limit, LimitRefused, answer_refused

app = FastAPI()
search = Limit(
    ratelimit.SlidingWindowLog("2 per 10 s", name="search"), key=by_client(), proxies=PROXIES
)


@app.get("/orders/{number}")
async def order(number: int) -> dict[str, int]:
    return {"order": number}


@app.get("/search", dependencies=[Depends(search)])
async def find() -> dict[str, list[str]]:
    return {"found": []}


@app.get("/reports/{name}")
async def report(name: str) -> dict[str, str]:
    return {"report": name}


@app.post("/login")
async def login() -> dict[str, str]:
    return {"hello": "ada"}


@app.put("/photos")
async def upload() -> dict[str, bool]:
    return {"stored": True}


app.add_exception_handler(LimitRefused, answer_refused)
app.add_middleware(RateLimitMiddleware, rules=rules(), proxies=PROXIES)
# Added last is outermost: rules that wait do so within the deadline of the request.
app.add_middleware(ContextMiddleware, max_timeout=10.0)

if __name__ == "__main__":
    import uvicorn

    # The rules know the proxies; uvicorn must not rewrite addresses as well.
    uvicorn.run(app, port=8000, proxy_headers=False)
