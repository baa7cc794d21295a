"""From `kdecode`'s arguments in the shell to the report: texts and addresses."""

from __future__ import annotations

import os
from collections.abc import Sequence

from faultkit.analyzers.kdecode import Options, analyze
from faultkit.debuginfo.debuginfod import server_urls
from faultkit.debuginfo.find import Places
from faultkit.debuginfo.lookup import AROUND
from faultkit.decode.model import Trace
from faultkit.model import FOUND, Report
from faultkit.options.kdecode import KdecodeArguments
from faultkit.target import FaultkitError
from faultkit.textfile import read_text
from faultkit.traces.addresses import parse_word
from faultkit.traces.reader import distinct, read

_REMEDY = "name a file with a back trace, - for the standard input, or addresses"


def examine(arguments: KdecodeArguments, host: dict[str, str | None]) -> Report:
    """The report.  Raises FaultkitError."""
    name, traces = _traces(arguments)
    around = AROUND if arguments.full and not arguments.no_dis else 0
    options = Options(arguments.frames, arguments.kaslr, around=around)
    report = analyze(traces, places_of(arguments), host, name, options)
    if report.verdict != FOUND:
        report.notes += _taken_for_functions(arguments.words)
    if arguments.full:
        from faultkit.decode.source import Sources
        from faultkit.decode.text import dress_traces
        from faultkit.decode.view import wanted_by

        sources = Sources(arguments.sources, report.target["release"])
        limits = dress_traces(report.traces, sources, wanted_by(arguments))
        report.limits += [limit for limit in limits if limit not in report.limits]
    return report


def _taken_for_functions(words: Sequence[str]) -> list[str]:
    """What may have been meant as files: names alone, of which there is no file."""
    alone = [word for word in words if "+" not in word and not os.path.exists(word)]
    places = [(word, parse_word(word)) for word in alone]
    return [
        f"there is no file {word}: it was taken for a function"
        for word, place in places
        if place is not None and place.symbol is not None
    ]


def places_of(arguments: KdecodeArguments) -> Places:
    """Where debug information is.  Raises FaultkitError for a file or directory, also one of
    sources, that is not there."""
    named = [path for path in (arguments.vmlinux, *arguments.modules) if path is not None]
    for path in named:
        if not os.path.isfile(path):
            raise FaultkitError(f"there is no file {path}", "give a vmlinux or .ko file")
    for paths, what in ((arguments.debug_dirs, "debug files"), (arguments.sources, "the sources")):
        for path in paths:
            if not os.path.isdir(path):
                raise FaultkitError(f"there is no directory {path}", f"give one with {what}")
    directories = tuple(path.rstrip("/") or "/" for path in arguments.debug_dirs)
    return Places(arguments.vmlinux, arguments.modules, directories, server_urls())


def _traces(arguments: KdecodeArguments) -> tuple[str, list[Trace]]:
    """(the name of what was given, the traces in it)."""
    traces: list[Trace] = []
    typed = Trace("addresses")
    files = []
    for word in arguments.words:
        if word in ("-", arguments.file) or os.path.exists(word):
            files.append("standard input" if word == "-" else word)
            traces += distinct(read(read_text(word, _REMEDY), arguments.exact))
            continue
        address = parse_word(word, arguments.exact)
        if address is None:
            raise FaultkitError(f"{word} is neither a file nor an address", _REMEDY)
        typed.entries.append(address)
    if typed.entries:
        traces.append(typed)
    if not traces:
        raise FaultkitError(f"no back trace in {', '.join(files)}", _REMEDY)
    return ", ".join(files) or "arguments", traces
