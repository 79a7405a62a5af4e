"""A Ray cluster: connecting to it, and checking that its nodes can run stages. Ray is imported when it is needed."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core import extras, machine
from compress.core.errors import ResourceError
from compress.recipe.code_version import code_version
from compress.search import ray_worker
from compress.search.placement import TIMING, Node
from compress.search.ray_address import HEAD, check_address

if TYPE_CHECKING:
    from ray import ObjectRef

INSTALL = "pip install 'bert-compress[ray]'"
SAME = "install the same versions of compress and its libraries on every node"
PROBE_SECONDS = 120.0


def check_cluster(address: str) -> None:
    """Check that Ray is installed and that a cluster answers at an address, see `check_address`.

    Raises:
        ResourceError: it is not, or none does.
        UsageError: the text is no address.
    """
    if not extras.is_installed("ray"):
        raise ResourceError("a cluster needs the package ray, which is not installed", INSTALL)
    check_address(address)


def connect(address: str) -> bool:
    """Connect to a cluster; returns whether we did, and not the caller of the Python API before us.

    Args:
        address: `local` starts a cluster on this machine, `auto` connects to the one that runs here, `HOST:PORT` to that one.

    Raises:
        ResourceError: Ray is not installed, or there is no such cluster.
        UsageError: the text is no address, or that of a Ray client.
    """
    check_cluster(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    import ray

    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": None}
    if address == "local":
        options |= {"num_cpus": machine.cores(), "resources": {TIMING: 1}, "include_dashboard": False}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}  # ray.init replaces them
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = "set TMPDIR to a short path on a disk with space" if address == "local" else HEAD
        raise ResourceError(f"cannot connect to the Ray cluster '{address}': {cause_of(error)}", hint) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)
    return True


def probed_nodes(store: Path, variables: Callable[[int], dict[str, str]]) -> list[Node]:
    """Return the nodes that can run stages, after checking that each sees the store and has our versions.

    Args:
        store: the folder of the store.
        variables: returns the environment of a stage with this many cores; the processes of the probe then go on to run stages.

    Raises:
        ResourceError: one does not.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    store.mkdir(parents=True, exist_ok=True)
    marker = store / f".probe-{secrets.token_hex(8)}"
    marker.touch()
    try:
        alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        if not alive:
            raise ResourceError("the Ray cluster has no node with a core", "start nodes with: ray start --address=HOST:PORT")
        environment = {"env_vars": variables(int(min(node["Resources"]["CPU"] for node in alive)))}
        refs = [
            ray.remote(ray_worker.probe)
            .options(
                num_cpus=0,
                runtime_env=environment,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )
            .remote(str(marker.absolute()))
            for node in alive
        ]
        return [_checked_node(node, ref, store) for node, ref in zip(alive, refs, strict=True)]
    finally:
        marker.unlink(missing_ok=True)


def _checked_node(node: Mapping[str, Any], ref: ObjectRef[ray_worker.Probe], store: Path) -> Node:
    import ray
    from ray.exceptions import RayError

    name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    try:
        probe = ray.get(ref, timeout=PROBE_SECONDS)
    except RayError as error:
        raise ResourceError(f"node {name} cannot run stages: {cause_of(error)}", f"on every node: {INSTALL}") from error
    if not probe["sees_store"]:
        raise ResourceError(f"node {name} does not see the folder {store}", "name a folder that every node has under the same path with -o")
    ours, theirs = machine.versions(), probe["versions"]
    if different := [library for library, version in ours.items() if theirs.get(library) != version]:
        library = different[0]
        raise ResourceError(f"node {name} has {library} {theirs.get(library)}, this process {ours[library]}", SAME)
    if any(code_version(verb) != digest for verb, digest in probe["code"].items()):
        raise ResourceError(f"node {name} has another version of compress", SAME)
    resources = node["Resources"]
    return Node(node["NodeID"], name, resources["CPU"], resources.get("GPU", 0), resources.get(TIMING, 0), probe["kind"])


def cause_of(error: BaseException) -> str:
    """Return the last line of a message of Ray, where its cause stands, without colours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
