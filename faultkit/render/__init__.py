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
        """The machine-readable report; "-" is standard output, and then nothing else, as for
        the other forms."""

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
    another form at "-", the standard output, took its place.  Raises FaultkitError for a file
    that can't be written and for a missing graphviz; the text is shown all the same."""
    forms = [(getattr(to, name, None), render) for name, render in _FORMS]
    alone = sum(path == "-" for path, _ in forms)
    if alone > 1:
        raise FaultkitError("one report fits on the standard output", "name a file for others")
    render_text = _text_renderer(report, getattr(to, "brief", False))
    if to.output and to.output != "-":
        save(to.output, render_text(report, width, False))
    elif not alone:
        write(render_text(report, width, color))
    for path, render in forms:
        if path == "-":
            write(render(report))
        elif path:
            save(path, render(report))


def _json(report: Report) -> str:
    from faultkit.render.machine import render_json

    return render_json(report) + "\n"


def _html(report: Report) -> str:
    from faultkit.render.kdecode_html import render_html

    return render_html(report)


def _dot(report: Report) -> str:
    from faultkit.render.dot import render_dot

    return render_dot(report)


def _svg(report: Report) -> str:
    return draw(_dot(report))


_FORMS = (("json", _json), ("html", _html), ("dot", _dot), ("svg", _svg))  # by option


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
    """Write a file as a whole or not at all; devices and pipes are written to directly.  A link
    stays one, and a file keeps its mode.  Raises FaultkitError where it can't be written."""
    expanded = os.path.expanduser(path)
    try:
        if os.path.exists(expanded) and not os.path.isfile(expanded):
            with open(expanded, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        else:
            # Links are followed first: a file replaces only one on its own file system.
            _replace(os.path.realpath(expanded), text)
    except BrokenPipeError:
        raise
    except OSError as error:
        said = f"cannot write {path}: {error.strerror}"
        raise FaultkitError(said, "name another file") from None


def _replace(target: str, text: str) -> None:
    # Not by tempfile, which the Python inside some debuggers lacks.
    name = f".faultkit-{os.getpid()}-{time.time_ns():x}"
    temporary = os.path.join(os.path.dirname(target), name)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        if os.path.exists(target):
            os.chmod(temporary, os.stat(target).st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def draw(graph: str) -> str:
    """The graph drawn by graphviz, as SVG.  Raises FaultkitError if it is not installed."""
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
    return done.stdout.decode("utf-8", "replace")
