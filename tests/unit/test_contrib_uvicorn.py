"""The uvicorn component, as far as it needs no server."""

import socket

import pytest

from hastack.contrib.uvicorn import UvicornServer
from hastack.lifecycle import Lifecycle


async def app(scope, receive, send): ...


@pytest.fixture(autouse=True)
def needs_uvicorn():
    pytest.importorskip("uvicorn")


def test_answers_are_sent_at_once_on_listeners_of_any_make():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        UvicornServer(app, lifecycle=Lifecycle("shop"), sockets=[listener])
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_sockets_that_know_no_delay_are_taken_too(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "shop.sock"))
        UvicornServer(app, lifecycle=Lifecycle("shop"), sockets=[listener])
