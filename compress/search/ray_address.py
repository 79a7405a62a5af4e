"""The address of a Ray cluster, checked before Ray connects: Ray itself waits half a minute for a cluster that does not exist."""

from __future__ import annotations

import contextlib
import os
import socket

from compress.core.errors import ResourceError, UsageError, did_you_mean

KNOWN = ("local", "auto")
HEAD = """give HOST:PORT of a running cluster, or local; start one with: ray start --head --resources='{"timing": 1}'"""
ANSWER_SECONDS = 3.0  # for a host to answer
# The preface of HTTP/2 with an empty SETTINGS frame (RFC 9113, 3.4). A gRPC server, such as Ray's, answers with its own settings.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
FRAME_HEADER, SETTINGS_FRAME = 9, 4


def check_address(address: str) -> None:
    """Check an address: `local`, `auto`, or the `HOST:PORT` of a process that answers like Ray's within seconds.

    Raises:
        UsageError: not an address, or the address of a Ray client.
        ResourceError: no answer, or the answer of another service; with `auto`, no cluster runs here.
    """
    if address.startswith("ray://"):
        raise UsageError(f"--ray {address}: the stages share a folder with this process", "run this on a node of the cluster: --ray auto")
    if address == "local":
        return
    target = _running() if address == "auto" else address
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"--ray {address}: this is no address of a cluster{did_you_mean(address, KNOWN)}", HEAD)
    where = f"{address} ({target})" if address == "auto" else address
    try:
        is_ray = bool(os.environ.get("RAY_USE_TLS")) or _speaks_grpc(host.strip("[]"), int(port))
    except OSError as error:
        reason = "nothing answers within seconds" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ResourceError(f"cannot connect to the Ray cluster '{where}': {reason}", HEAD) from error
    if not is_ray:
        raise ResourceError(f"cannot connect to the Ray cluster '{where}': what answers there is not Ray", HEAD)


def _running() -> str:
    """Return the address of the cluster that runs on this machine, or that RAY_ADDRESS names."""
    from ray._private import services

    try:
        return str(services.get_ray_address_from_environment("auto", None))
    except ConnectionError as error:
        raise ResourceError("cannot connect to the Ray cluster 'auto': no cluster runs on this machine", HEAD) from error


def _speaks_grpc(host: str, port: int) -> bool:
    """Return whether the process at an address answers the start of an HTTP/2 connection with a frame of settings.

    Raises:
        OSError: no connection, or no answer in time.
    """
    with contextlib.closing(socket.create_connection((host, port), timeout=ANSWER_SECONDS)) as connection:
        connection.sendall(PREFACE)
        header = connection.recv(FRAME_HEADER)
    return len(header) == FRAME_HEADER and header[3] == SETTINGS_FRAME
