"""The page of the dashboard in a real, headless Chromium."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from asgi_servers import HOSTILE, TOKEN, served
from browser import Browser, chromium

from hastack import config, discovery, health, lifecycle
from hastack.contrib.dashboard import Dashboard
from hastack.observe import logs
from hastack.ratelimit import AdaptiveLimit, BreakerState, CircuitBreaker, TokenBucket

pytest.importorskip("uvicorn")
if chromium() is None:
    pytest.skip("needs chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


@pytest.fixture
def page(browser):
    """A browser that remembers nothing, and says so when a page did what it must not."""
    browser.messages.clear()
    browser.requests.clear()
    browser.size(1280, 900)
    browser.prefer("light")
    return browser


@contextlib.contextmanager
def shown(page, app):
    """The page of ``app``, which must write nothing to the console while it is open."""
    with served(app) as port:
        page.open(f"http://127.0.0.1:{port}/")
        page.until("document.body.dataset.looks || document.querySelector('#ask').open")
        try:
            yield port
            assert page.messages == []
        finally:
            page.run("try { sessionStorage.clear(); localStorage.clear() } catch {}")
            page.open("about:blank")


def names(page, section):
    return page.run(
        f"[...document.querySelectorAll('#s-{section} tbody th')].map(e => e.firstChild.textContent)"
    )


def color(page, expression="document.body"):
    found = page.run(f"getComputedStyle({expression}).backgroundColor")
    return [int(each) for each in re.findall(r"\d+", found)[:3]]


def test_every_section_is_there_and_names_are_only_text(page):
    bucket = TokenBucket("1/min", burst=1, name=HOSTILE)
    breaker = CircuitBreaker(name=HOSTILE, min_calls=1)
    adaptive = AdaptiveLimit(name="</script><script>document.title='owned'</script>")
    life = lifecycle.Lifecycle(HOSTILE, lame_duck=0.0)
    checks = health.Health(HOSTILE)
    checks.add_check(HOSTILE, lambda: True)
    tracker = logs.SchemaTracker()
    tracker.apply_records(HOSTILE, [{HOSTILE: str(n)} for n in range(20)])
    engine = logs.Engine(['{"a": 1}'], name=HOSTILE)
    list(engine)
    registry = discovery.connect("memory://dashboard-browser")
    watched = config.watch(env=None)
    things = [bucket, breaker, adaptive, life, checks, tracker, engine, registry, watched]
    with (
        life,
        registry.register("orders", HOSTILE, id=HOSTILE, zone=HOSTILE, grace=0.0),
        watched,
        Dashboard(*things, service=HOSTILE, period=0.05) as app,
        shown(page, app) as port,
    ):
        registry.resolve("orders")
        breaker.try_acquire().failure()
        bucket.try_acquire()
        bucket.try_acquire()
        page.until("document.querySelector('#s-events')")
        sections = page.run("[...document.querySelectorAll('#content > section')].map(e => e.id)")
        wanted = (
            "lifecycles health breakers adaptive limiters services engines schemas config events"
        )
        assert sections == [f"s-{each}" for each in wanted.split()]
        assert names(page, "limiters") == names(page, "breakers") == [HOSTILE]
        assert page.run("document.querySelectorAll('#content img, #content script').length") == 0
        assert "owned" not in page.run("document.title").split(" – ")
        assert page.run("document.querySelector('h1').textContent") == HOSTILE
        text = page.run("document.querySelector('#s-services').textContent")
        assert HOSTILE in text
        # A section in the navigation for each on the page; nothing came from elsewhere.
        assert page.run("document.querySelectorAll('nav li').length") == len(sections)
        assert {
            each.partition("/")[2].partition("/")[2].partition("/")[0] for each in page.requests
        } == {f"127.0.0.1:{port}"}
        # States are told by a word and a shape, never by colour alone.
        states = page.run(
            "[...document.querySelectorAll('#content .state')].map(e => [e.textContent,"
            " !!e.querySelector('.mark')])"
        )
        assert states
        assert all(word and mark for word, mark in states)
        page.size(390, 844)
        wide = page.run("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
    engine.close()
    registry.close()


def test_an_update_arrives_by_itself_and_pausing_holds_it(page):
    bucket = TokenBucket("1000/s", name="live one")
    breaker = CircuitBreaker(name="db", min_calls=2)
    with Dashboard(bucket, breaker, period=0.05) as app, shown(page, app):
        page.until("document.querySelector('#link-text').textContent === 'live'")
        for _ in range(7):
            bucket.try_acquire()
        page.until("document.querySelector('#s-limiters').textContent.includes('7 in all')")
        assert "closed" in page.run("document.querySelector('#s-breakers').textContent")
        for _ in range(2):
            breaker.try_acquire().failure()
        page.until("document.querySelector('#s-breakers td').textContent === 'open'")
        page.until("document.querySelector('#say').textContent === 'breaker db is open'")
        page.press("p")
        page.until("document.querySelector('#link-text').textContent === 'paused'")
        before = page.run("document.body.dataset.looks")
        time.sleep(0.3)
        assert page.run("document.body.dataset.looks") == before
        page.press("p")
        page.until(f"document.body.dataset.looks !== '{before}'")


def test_light_dark_and_the_choice_between_them(page):
    bucket = TokenBucket("1/s", name="themed")
    with Dashboard(bucket, period=0.05) as app, shown(page, app):
        assert min(color(page)) > 200
        page.prefer("dark")
        assert max(color(page)) < 60
        page.press("t")  # auto -> light, whatever the system says
        assert min(color(page)) > 200
        page.press("t")
        page.prefer("light")
        assert max(color(page)) < 60
        page.send("Page.reload")  # remembered
        page.until("document.body && document.body.dataset.looks")
        assert max(color(page)) < 60
        for scheme in ("light", "dark"):
            page.run(f"document.documentElement.dataset.theme = '{scheme}'")
            assert contrast(page) >= 4.5


def contrast(page):
    """The smallest contrast (WCAG 2) of a text against the card that it stands on."""
    return page.run(
        """(() => {
        const part = (c) => { c /= 255; return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
        const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
          return .2126 * part(r) + .7152 * part(g) + .0722 * part(b); };
        const card = light(getComputedStyle(document.querySelector('.tile')).backgroundColor);
        const found = [];
        for (const name of ['--text', '--soft', '--accent', '--good', '--warn', '--bad']) {
          const probe = document.querySelector('.tile').appendChild(document.createElement('i'));
          probe.style.setProperty('color', `var(${name})`);
          const it = light(getComputedStyle(probe).color);
          probe.remove();
          found.push((Math.max(it, card) + .05) / (Math.min(it, card) + .05));
        }
        return Math.min(...found);
        })()"""
    )


def test_the_keyboard_reaches_everything(page):
    guards = [TokenBucket("1/s", name="alpha"), TokenBucket("1/s", name="beta")]
    breaker = CircuitBreaker(name="gamma")
    app = Dashboard(*guards, breaker, actions=TOKEN, period=0.05)
    with app, shown(page, app):
        page.press("Tab", code="Tab", windowsVirtualKeyCode=9)
        assert page.run("document.activeElement.className") == "skip"
        reached = []
        for _ in range(12):
            page.press("Tab", code="Tab", windowsVirtualKeyCode=9)
            reached.append(page.run("document.activeElement.id || document.activeElement.hash"))
        wanted = ["filter", "pause", "unlock", "theme", "help", "#s-breakers", "#s-limiters"]
        assert [each for each in reached if each in wanted][: len(wanted)] == wanted
        page.run("document.activeElement.blur()")
        page.press("j")
        assert page.run("document.activeElement.id") == "s-breakers"
        page.press("j")
        assert page.run("document.activeElement.id") == "s-limiters"
        page.press("k")
        assert page.run("document.activeElement.id") == "s-breakers"
        page.press("/")
        assert page.run("document.activeElement.id") == "filter"
        page.type("bet")
        page.until("document.querySelectorAll('#s-limiters tbody tr').length === 1")
        assert names(page, "limiters") == ["beta"]
        page.press("Escape", code="Escape", windowsVirtualKeyCode=27)
        page.until("document.querySelectorAll('#s-limiters tbody tr').length === 2")
        page.press("?")
        assert page.run("document.querySelector('#keys').open") is True
        page.press("Escape", code="Escape", windowsVirtualKeyCode=27)
        page.until("!document.querySelector('#keys').open")


def test_acting_takes_the_token_and_says_what_went_wrong(page):
    breaker = CircuitBreaker(name="db")
    bucket = TokenBucket("10/s", name="api")
    with Dashboard(breaker, bucket, actions=TOKEN, period=0.05) as app, shown(page, app):
        assert page.run("document.querySelectorAll('td.acts button').length") == 0
        page.run("document.querySelector('#unlock').click()")
        page.type(TOKEN)
        page.run("document.querySelector('#ask-ok').click()")
        page.until("document.querySelector('#s-breakers td.acts button')")
        page.run("document.querySelector('#s-breakers td.acts button').click()")
        assert "Force open: db" in page.run("document.querySelector('#ask').textContent")
        assert breaker.state is BreakerState.CLOSED  # not before it is confirmed
        page.run("document.querySelector('#ask-ok').click()")
        page.until("document.querySelector('#s-breakers td').textContent === 'forced open'")
        assert breaker.state is BreakerState.FORCED_OPEN
        page.run("document.querySelector('#s-limiters td.acts button').click()")
        page.run("document.querySelector('#ask-value').value = '-3'")
        page.run("document.querySelector('#ask-ok').click()")
        page.until("document.querySelector('#ask-error').textContent.includes('rate')")
        page.run("document.querySelector('#ask-value').value = '25'")
        page.run("document.querySelector('#ask-ok').click()")
        page.until("!document.querySelector('#ask').open")
        page.until("document.querySelector('#s-limiters').textContent.includes('25')")
        assert bucket.rate == 25.0
        page.messages[:] = [each for each in page.messages if "400" not in each]  # said by us


def test_a_reader_is_asked_for_the_token(page):
    bucket = TokenBucket("1/s", name="hidden one")  # held here: a dashboard holds nothing
    app = Dashboard(bucket, token=TOKEN, period=0.05)
    with app, shown(page, app):
        assert page.run("document.querySelector('#ask').open")
        assert "hidden one" not in page.run("document.body.textContent")
        page.type(TOKEN)
        page.press("Enter", code="Enter", windowsVirtualKeyCode=13)
        page.until("document.body.dataset.looks")
        assert names(page, "limiters") == ["hidden one"]
        page.messages[:] = [each for each in page.messages if "401" not in each]


def test_nothing_to_show_and_a_service_that_goes_away(page):
    class Nothing:
        """No object of hastack."""

    nothing = Nothing()
    app = Dashboard(nothing, service="empty", period=0.05)
    with app:
        with served(app) as port:
            page.open(f"http://127.0.0.1:{port}/")
            page.until("document.body.dataset.looks")
            assert page.run("document.querySelector('#empty').hidden") is False
            assert page.run("document.querySelector('#content').childElementCount") == 0
            app.drain()
        page.until("document.body.classList.contains('stale')")
        assert page.run("document.querySelector('#link-text').textContent").startswith("lost")
    page.open("about:blank")
