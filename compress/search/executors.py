"""Opening an executor: in this process, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from compress.search.executor import Executor, LocalExecutor


def check_ray(address: str) -> None:
    """Check before any work that Ray is installed and that a cluster answers at an address.

    Raises:
        ResourceError, UsageError: as `opened` raises them, within seconds.
    """
    from compress.search.ray_cluster import check_cluster

    check_cluster(address)


@contextmanager
def opened(ray: str | None = None) -> Iterator[Executor]:
    """Yield an executor and close it.

    Args:
        ray: None runs stages in this process; `local` starts a Ray cluster on this machine, `auto` uses the one that runs here, and
            `HOST:PORT` that one.

    Raises:
        ResourceError: Ray is not installed, or there is no such cluster.
        UsageError: the address of a Ray client.
    """
    if ray is None:
        yield LocalExecutor()
        return
    from compress.search.ray_executor import RayExecutor

    with closing(RayExecutor(ray)) as executor:
        yield executor
