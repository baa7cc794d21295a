"""Reports as text, JSON and graphs: the only place that formats anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from faultkit.model import Report
from faultkit.record import Protocol
from faultkit.target import FaultkitError


class Destinations(Protocol):
    """Where a report goes, as the user asked: file names, or None.  What only some commands can
    be asked for is no part of it: `dot` and `svg`, the graph for graphviz and as drawn by it;
    `html`; `brief`, a shorter text."""

    @property
    def json(self) -> str | None:
        """The machine-readable report; "-" is standard output, and then nothing else."""

    @property
    def output(self) -> str | None:
        """The text, instead of the terminal."""


def deliver(
    report: Report,
    to: Destinations,
    write: Callable[[str], object],
    width: int,
    color: bool,
) -> None:
    """Write the report wherever it was asked for; the text goes to `write` unless `output` or
    `json` "-" took its place.  Raises OSError for a file that can't be written, FaultkitError
    for a missing graphviz; the text is shown all the same."""
    render_text = _text_renderer(report, getattr(to, "brief", False))
    if to.json == "-":
        from faultkit.render.machine import render_json

        write(render_json(report) + "\n")
    elif to.output:
        save(to.output, render_text(report, width, False))
    else:
        write(render_text(report, width, color))
    if to.json and to.json != "-":
        from faultkit.render.machine import render_json

        save(to.json, render_json(report) + "\n")
    page = getattr(to, "html", None)
    if page:
        from faultkit.render.kdecode_html import render_html

        save(page, render_html(report))
    dot, drawn = getattr(to, "dot", None), getattr(to, "svg", None)
    if dot or drawn:
        from faultkit.render.dot import render_dot

        graph = render_dot(report)
        if dot == "-":
            write(graph)
        elif dot:
            save(dot, graph)
        if drawn:
            draw(graph, drawn)


def _text_renderer(report: Report, brief: bool) -> Callable[[Report, int, bool], str]:
    if report.command == "dstate":
        from faultkit.render.dstate_text import render_dstate

        return render_dstate
    if report.command == "kdecode" and brief:
        from faultkit.render.kdecode_brief import render_brief

        return render_brief
    if report.command == "kdecode":
        from faultkit.render.kdecode_text import render_kdecode

        return render_kdecode
    if report.command == "sigsrc" and report.target["kind"] == "kernel":
        from faultkit.render.senders import render_senders

        return render_senders
    if report.command == "sigsrc":
        from faultkit.render.sigsrc_text import render_sigsrc

        return render_sigsrc
    from faultkit.render.text import render_text

    return render_text


def save(path: str, text: str) -> None:
    """Write a file as a whole or not at all; devices and pipes are written to directly."""
    path = os.path.expanduser(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return
    folder = os.path.dirname(os.path.abspath(path))
    # Not by tempfile, which the Python inside some debuggers lacks.
    temporary = os.path.join(folder, f".faultkit-{os.getpid()}-{time.time_ns():x}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(temporary, os.path.realpath(path))
    except BaseException:
        os.unlink(temporary)
        raise


def draw(graph: str, path: str) -> None:
    """Have graphviz draw the graph as SVG.  Raises FaultkitError if it is not installed."""
    import subprocess

    try:
        done = subprocess.run(
            ["dot", "-Tsvg"],
            input=graph.encode("utf-8", "backslashreplace"),
            capture_output=True,
            timeout=60,
            check=True,
        )
    except FileNotFoundError:
        raise FaultkitError(
            "--svg needs graphviz, which is not installed", "sudo apt-get install graphviz"
        ) from None
    except subprocess.SubprocessError as error:
        raise FaultkitError(f"graphviz failed: {error}", "use --dot FILE instead") from None
    save(path, done.stdout.decode("utf-8", "replace"))
