"""The state diagram in the documentation is the transition table."""

from pathlib import Path

from hastack.ratelimit._breaker import transition_diagram

PAGE = Path(__file__).parents[2] / "docs" / "ratelimit-breaker.md"


def test_the_page_shows_the_transition_table():
    shown = PAGE.read_text().partition("-->\n```text\n")[2].partition("\n```\n")[0]
    assert shown == transition_diagram()
