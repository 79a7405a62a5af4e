"""The report and the card with hostile names, labels and texts, opened in a browser; and what must not be in any artifact."""

from __future__ import annotations

import copy
import http.server
import json
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests import tiny
from tests.torture import small
from tests.torture.children import Place, fork, run
from tests.torture.session import Report, Session

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
RAN = "torture-ran"  # an element that only a payload that runs creates
RUN = f"document.documentElement.appendChild(document.createElement('{RAN}'))"
PAYLOADS = [  # {url}: of the server that must not be asked
    "<script>{run}</script>", "</script><script>{run}</script>", "</title><script>{run}</script>", "</style><script>{run}</script>",
    "<img src=x onerror=\"{run}\">", "<img src={url}img>", "<svg onload=\"{run}\">", "<svg><script>{run}</script></svg>",
    "\" onmouseover=\"{run}\" x=\"", "' onfocus='{run}' autofocus '", "\"><script>{run}</script>", "'><img src=x onerror=\"{run}\">",
    "<iframe srcdoc=\"<script>{run}</script>\"></iframe>", "<iframe src={url}frame></iframe>", "<object data={url}object></object>",
    "<link rel=stylesheet href={url}style>", "<style>@import '{url}import';</style>", "<style>*{{background:url({url}background)}}</style>",
    "<meta http-equiv=refresh content=\"0;url={url}refresh\">", "<base href={url}>", "<video src={url}video autoplay></video>",
    "<audio src={url}audio autoplay></audio>", "<body onload=\"{run}\">", "<details open ontoggle=\"{run}\">x</details>",
    "<!--><script>{run}</script>-->", "]]><script>{run}</script>", "<a href=\"javascript:{run}\" id=x>y</a><script>x.click()</script>",
    "[click](javascript:{run})", "![picture]({url}markdown)", "[![x]({url}nested)]({url}link)", "`` `<img src=x onerror=\"{run}\">` ``",
    "```\n<script>{run}</script>\n```", "| a | b |\n|---|---|\n| <img src={url}cell> | x |", "# <img src={url}heading>", "<{url}autolink>",
    "&lt;script&gt;{run}&lt;/script&gt;", "&#x3C;img src=x onerror={run}&#x3E;", "${{title}} $title {{{{7*7}}}} %{{x}} {{x}}",
    "\u2028<script>{run}</script>\u2029", "\\u003cscript\\u003e{run}\\u003c/script\\u003e", "\0<script>{run}</script>",
    "<scr\0ipt>{run}</script>",
    "<ScRiPt >{run}</sCrIpT>", "<image src=x onerror=\"{run}\">", "<math><mtext><img src=x onerror=\"{run}\"></mtext></math>",
]  # fmt: skip
GROUP = 5  # payloads of a page
SHORT = 0.05  # below this scale only the pages of a run are opened
SECRETS = {
    "HF_TOKEN": "hf_TortureTokenAbcdefghijklmnopqrstu", "HUGGING_FACE_HUB_TOKEN": "hf_TortureOtherTokenAbcdefghijklm",
    "AWS_SECRET_ACCESS_KEY": "TortureAwsSecretKey/0123456789", "TORTURE_SECRET": "torture-value-of-the-environment",
}  # fmt: skip


def pages(session: Session) -> Report:
    """Run every case."""
    report = Report("pages")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        report.figures["browser"] = "skipped: there is no Chromium (Debian: apt-get install chromium)"
    else:
        with _counting_server() as (url, asked):
            _hostile_pages(session, report, browser, url, asked)
    for name, check in {"secrets": _secrets, "private caches": _private_caches}.items():
        if session.wanted(f"pages/{name}"):
            report.add(f"pages/{name}", check(Place.make(session.folder / name.replace(" ", "-"))))
    return report


def _hostile_pages(session: Session, report: Report, browser: str, url: str, asked: list[str]) -> None:
    """Write and open every page; the first one shows that the test notices what runs."""
    payloads = [payload.format(run=RUN, url=url) for payload in PAYLOADS]
    groups = [payloads[start : start + GROUP] for start in range(0, len(payloads), GROUP)]
    numbers = session.sample(range(len(groups)))
    control = session.folder / "control.html"
    control.write_text(f"<!DOCTYPE html><body>{payloads[0]}{payloads[5]}</body>", encoding="utf-8")
    dom, requests = _opened(browser, control, asked)
    if f"<{RAN}" not in dom or not requests:
        report.figures["browser"] = f"skipped: {browser} does not run the control page: {dom[-200:]!r}, {requests}"
        return
    opened = 0
    few = session.scale < SHORT and not session.only  # to open a page takes as long as a run
    for number in () if few else numbers:
        for kind, write in (("report", _hostile_report), ("card", _hostile_card)):
            name = f"pages/{kind}/{number}"
            if session.wanted(name):
                page, opened = write(Place.make(session.folder / f"{kind}{number}"), groups[number]), opened + 1
                report.add(name, [page] if isinstance(page, str) else _ran(browser, page, asked))
    if session.wanted("pages/run"):
        written = _hostile_run(Place.make(session.folder / "run"), payloads[:: 4 if session.scale < 1 else 2])
        opened += 0 if isinstance(written, str) else len(written)
        report.add(
            "pages/run", [written] if isinstance(written, str) else [line for page in written for line in _ran(browser, page, asked)]
        )
    report.figures["browser"] = (
        f"{opened} pages with {len(PAYLOADS)} payloads opened in {Path(browser).name}; the control page ran and asked"
    )


@contextmanager
def _counting_server() -> Iterator[tuple[str, list[str]]]:
    """Serve on this machine; yields the address and the list of what was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _opened(browser: str, page: Path, asked: list[str]) -> tuple[str, list[str]]:
    """Open a page; returns the document after its scripts, and what it asked a server for."""
    before = len(asked)
    with tempfile.TemporaryDirectory() as profile:
        log = Path(profile) / "net.json"
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--no-first-run", f"--user-data-dir={profile}/profile", f"--log-net-log={log}", "--virtual-time-budget=5000", "--dump-dom",
            page.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=400, check=False, env={**os.environ, "HOME": profile, "LD_PRELOAD": ""})
        logged = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return done.stdout.decode("utf-8", "replace"), asked[before:] + _addresses(logged)


def _addresses(log: str) -> list[str]:
    """Return the addresses that a net log names, without those of the browser's own services."""
    try:
        events = json.loads(log)["events"]
    except (ValueError, KeyError):
        return []
    named = {str(event.get("params", {}).get("url", "")) for event in events}
    own = ("google.com", "googleapis.com", "gvt1.com", "gstatic.com")
    return [url for url in sorted(named) if url.startswith(("http", "ws")) and not any(host in url.split("/")[2] for host in own)]


def _ran(browser: str, page: Path, asked: list[str]) -> list[str]:
    """Open a page; returns what ran, and what it asked for."""
    dom, requests = _opened(browser, page, asked)
    problems = [f"{page.name}: a payload ran"] if f"<{RAN}" in dom else []
    problems += [f"{page.name}: asked for {request}" for request in requests]
    return problems if "</html>" in dom else [*problems, f"{page.name}: the browser shows nothing: {dom[-200:]!r}"]


def _hostile_report(place: Place, payloads: list[str]) -> Path | str:
    """Write the report of a run whose names are payloads; returns its page."""

    def work() -> None:
        from compress import report
        from tests.unit.report import documents as made

        names = [*payloads, "int8"]
        proof = made.evaluation(names) | {"split": payloads[0], "task": payloads[1 % len(payloads)], "main_metric": "accuracy"}
        gate = {"gate": payloads[-1], "limit": 1.0, "measured": None, "passed": False, "where": payloads[0]}
        stages = {
            "teacher": made.TEACHER,
            "slim": made.SLIM,
            "graph": made.GRAPH,
            "int8": made.INT8,
            "proof": proof,
            "speed": made.bench(names),
        }
        folder = made.write_run(
            place.work / "run", {name: _with_payloads(stage, payloads) for name, stage in stages.items()}, [gate], payloads[0]
        )
        (folder / "recipe.resolved.yaml").write_text("\n".join(payloads).replace("\0", ""), encoding="utf-8")
        rows = [{"text": [payload], "label": payload, "predictions": dict.fromkeys(names, payload)} for payload in payloads]
        (folder / "stages/05-proof/errors.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        report.write(folder)

    ended = fork(place, work).wait()
    return place.work / "run/report.html" if not ended.code else f"the report cannot be written: {small.tail(ended.err)}"


def _with_payloads(document: dict[str, Any], payloads: list[str]) -> dict[str, Any]:
    """Return a document in which free texts are payloads."""
    result = copy.deepcopy(document)
    if isinstance(result.get("task"), dict):
        result["task"]["name"] = payloads[0]
    return result | {"note": payloads[-1]}


def _hostile_card(place: Place, payloads: list[str]) -> Path | str:
    """Write the card of a model whose names are payloads, and render its Markdown as permissively as a renderer may."""

    def work() -> None:
        from markdown_it import MarkdownIt

        from compress.report.card import model_card
        from tests.unit.report.test_card import manifests

        documents = manifests("class")
        text = json.dumps(documents)
        for original, payload in zip(
            ("topics", "google-bert/bert-base-uncased@main", "accuracy", "int8 per channel"), payloads, strict=False
        ):
            text = text.replace(json.dumps(original)[1:-1], json.dumps(payload)[1:-1])
        changed = json.loads(text)
        for number, payload in enumerate(payloads):
            for manifest in changed.values():
                for entry in manifest.get("results") or []:
                    if entry["model"] == "teacher" and number == 0:
                        entry["model"] = payload
        stage = next(name for name in changed if "int8" in name)
        card = model_card(payloads[0], stage, changed)
        body = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").render(card.split("---\n", 2)[-1])
        (place.work / "card.html").write_text(
            f"<!DOCTYPE html><html><body>{body}</body></html>", encoding="utf-8", errors="backslashreplace"
        )

    ended = fork(place, work).wait()
    return place.work / "card.html" if not ended.code else f"the card cannot be written: {small.tail(ended.err)}"


def _hostile_run(place: Place, payloads: list[str]) -> list[Path] | str:
    """Run the small recipe with payloads as labels and texts, in a folder with such a name; returns its report and card."""
    payloads = [payload.replace("\0", "") for payload in payloads]
    small.write_inputs(place.work)
    rows = [{"text": f"{text} {payload}", "label": payload} for payload in payloads for text, _ in tiny.sentences(4, seed=2)]
    (place.work / "hostile.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (place.work / "model").rename(place.work / "<img src=x onerror=alert(1)>")
    recipe = yaml.safe_load((place.work / "small.yaml").read_text(encoding="utf-8"))
    files = dict.fromkeys(("train", "validation", "test"), "hostile.jsonl")
    recipe |= {"model": "./<img src=x onerror=alert(1)>", "task": {"name": "hostile", "text": ["text"], "max_length": 32, **files}}
    (place.work / "small.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    ended = run(place, small.RUN, small.undisturbed_clock)
    if ended.code:
        return f"the run fails ({ended.code}): {small.tail(ended.err)}"

    def render() -> None:
        from markdown_it import MarkdownIt

        card = (place.work / "run/model/README.md").read_text(encoding="utf-8")
        body = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.split("---\n", 2)[-1])
        (place.work / "card.html").write_text(f"<!DOCTYPE html><html><body>{body}</body></html>", encoding="utf-8")

    rendered = fork(place, render, "render").wait()
    return [place.work / "run/report.html", place.work / "card.html"] if not rendered.code else small.tail(rendered.err)


def _secrets(place: Place) -> list[str]:
    """Return where a token, a value of the environment, or (in what is shipped) a path of this machine was written."""
    small.write_inputs(place.work)

    def prepare() -> None:
        small.save_each_epoch()
        os.environ.update(SECRETS)

    problems = []
    commands = {"run": small.RUN, "prune": small.PRUNE, "predict": ["--debug", "predict", "run/model", "a red dog"],
                "fails": ["--debug", "predict", "nowhere", "x"],
                "errors": ["eval", "model", "--task", "task.yaml", "--errors", "errors.jsonl"],
                "doctor": ["--json", "doctor"]}  # fmt: skip
    for name, arguments in commands.items():
        ended = run(place, arguments, prepare, name)
        problems += small.well_said(ended, [0]) if name not in ("fails", "predict") else []
    for path in place.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            problems += [
                f"{path.relative_to(place.folder)} holds the value of {name}" for name, value in SECRETS.items() if value.encode() in data
            ]
    for path in (place.work / "run/model").iterdir():
        if str(place.box).encode() in path.read_bytes():
            problems.append(f"{path.relative_to(place.work)}, which is shipped, names a folder of this machine")
    return problems


def _private_caches(place: Place) -> list[str]:
    """Return the folders of caches and temporary files that others may read, with the usual umask."""
    small.write_inputs(place.work)
    home = place.box / "home"
    home.mkdir()

    def prepare() -> None:
        small.save_each_epoch()
        os.umask(0o022)
        os.environ.pop("COMPRESS_CACHE")
        os.environ.pop("XDG_CACHE_HOME", None)
        os.environ["HOME"] = str(home)

    def temporary() -> None:
        os.umask(0o022)
        from compress.core import scratch

        mode = stat.S_IMODE(scratch.root().stat().st_mode)
        raise SystemExit(0 if mode == 0o700 else 3)

    ended = run(place, small.RUN, prepare)
    problems = small.well_said(ended, [0])
    cache = home / ".cache" / "compress"
    if not cache.is_dir():
        return [*problems, "nothing was cached"]
    if stat.S_IMODE(cache.stat().st_mode) != 0o700:
        problems.append(f"{cache} has the mode {stat.S_IMODE(cache.stat().st_mode):o}")
    if fork(place, temporary, "temporary").wait().code:
        problems.append("the folder for temporary files is not private")
    return problems
