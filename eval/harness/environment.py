"""Peers' virtual environments: one each, made once, used again as long as its requirements are the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from peers import CONSTRAINTS, Peer

from compress.core import caches, console, digests, disk, files, locks
from compress.core.errors import ResourceError

INSTALL_SECONDS = 1800
NEEDED_BYTES = 4 << 30
STAMP = "installed.json"
ROOT = Path(__file__).parent.parent
# OpenMP threads spin for a fraction of a millisecond (within a run, between its loops), then sleep: the defaults keep
# them spinning long into the next candidate's turn. Sleeping at once would make PyTorch up to 1.4 times slower.
QUIET = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME")


def peers_folder() -> Path:
    """Return the folder of the peers' environments."""
    return caches.cache_root() / "peers"


def interpreter(peer: Peer) -> Path:
    """Return the Python that runs a peer, making its environment where it is not there or its requirements changed.

    Raises:
        ResourceError: the environment cannot be made; the message is the last thing that pip said.
    """
    if not peer.isolated:
        return Path(sys.executable)
    folder = peers_folder() / peer.name
    python = folder / "bin" / "python"
    expected = expected_stamp(peer)
    with locks.locked(folder, wait=True):
        if python.exists() and _read(folder / STAMP) == expected:
            return python
        disk.check_space(folder, NEEDED_BYTES)
        console.info(f"making the environment of {peer.name}")
        shutil.rmtree(folder, ignore_errors=True)  # a virtual environment records its path, so it cannot be moved
        _call([sys.executable, "-m", "venv", str(folder)], peer)
        _call([str(python), "-m", "pip", "install", "--quiet", "-r", str(peer.requirements), "-c", str(CONSTRAINTS)], peer)
        files.write_json(folder / STAMP, expected)  # written last: without it the environment is incomplete
    return python


def expected_stamp(peer: Peer) -> dict[str, str]:
    """Return what an environment depends on."""
    return {
        "python": sys.version.split()[0],
        "requirements": digests.digest_file(peer.requirements),
        "constraints": digests.digest_file(CONSTRAINTS),
    }


def variables(isolated: bool, threads: int) -> dict[str, str]:
    """Return the environment variables of a worker: few, the same for all, nothing of ours in a peer's."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    if not isolated:
        kept |= {name: value for name, value in os.environ.items() if name in ("PYTHONPATH", "VIRTUAL_ENV")}
    counts = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return (
        kept | QUIET | counts | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONNOUSERSITE": "1", "CI": "true"}
    )  # CI: no telemetry


def _read(path: Path) -> object:
    try:
        return files.read_json(path)
    except (OSError, ValueError):
        return None


def _call(command: list[str], peer: Peer) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise ResourceError(f"installing {peer.name} took longer than {INSTALL_SECONDS // 60} minutes") from None
    if done.returncode:
        raise ResourceError(f"{peer.name} could not be installed: {reason(done.stderr)}")


def reason(text: str) -> str:
    """Return the last line of a tool's complaint (an error where there is one), without addresses."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    errors = [line for line in lines if line.startswith("ERROR")]
    return re.sub(r"\w+://\S+", "(address)", (errors or lines)[-1])[:300]
