"""A wrong address of a cluster is found within seconds, with one message."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from compress.core.errors import ResourceError, UsageError
from compress.search import ray_address
from compress.search.ray_address import check_address


@contextmanager
def answering(reply: bytes | None) -> Iterator[str]:
    """Yield the address of a server that answers once; None: it accepts and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with closing(connection):
                if reply is None:
                    done.wait(5)
                else:
                    connection.recv(1024)
                    connection.sendall(reply)

        done = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        done.set()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("loacl", r"no address of a cluster \(did you mean 'local'\?\)"),
        ("here", "no address of a cluster$"),
        ("host:99999", "no address of a cluster"),
        ("ray://host:10001", "share a folder with this process"),
    ],
)
def test_what_is_no_address(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_address(address)


def test_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        free = f"127.0.0.1:{server.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(ResourceError, match="cannot connect to the Ray cluster"):
        check_address(free)
    monkeypatch.setattr(ray_address, "ANSWER_SECONDS", 0.2)
    with answering(None) as silent, pytest.raises(ResourceError, match="nothing answers within seconds"):
        check_address(silent)
    assert time.monotonic() - started < 5


def test_another_server_is_not_ray() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address, pytest.raises(ResourceError, match="is not Ray"):
        check_address(address)


def test_a_server_of_grpc_is_taken_for_ray() -> None:
    with answering(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])) as address:
        check_address(address)
    check_address("local")
