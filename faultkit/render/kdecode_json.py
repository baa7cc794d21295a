"""`kdecode`'s frames and traces as plain objects, for the machine-readable report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from faultkit.decode.model import Decoded, DecodedTrace, Instruction, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeAlias


Clean: TypeAlias = "Callable[[str | None], str | None]"


def trace_objects(
    traces: Sequence[DecodedTrace], clean: Clean
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(all frames, all traces): a trace has the numbers of its frames in the first list."""
    frames: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    for trace, decoded in traces:
        first = len(frames)
        frames += [_frame(frame, len(told), clean) for frame in decoded]
        told.append(
            {
                "kind": trace.kind,
                "title": clean(trace.title),
                "task": clean(trace.task),
                "pid": trace.pid,
                "cpu": trace.cpu,
                "release": clean(trace.release),
                "kaslr_offset": _hex(trace.offset),
                "registers": {name: _hex(value) for name, value in trace.registers.items()},
                "frames": list(range(first, len(frames))),
                "notes": [clean(note) for note in trace.notes],
            }
        )
    return frames, told


def _frame(frame: Decoded, trace: int, clean: Clean) -> dict[str, Any]:
    return {
        "type": "frame",
        "index": frame.index,
        "trace": trace,
        "address": _hex(frame.address) if frame.placed else None,
        "exact": frame.exact,
        "unreliable": frame.unreliable,
        "symbol": clean(frame.symbol),
        "offset": frame.offset,
        "size": frame.size,
        "module": clean(frame.module),
        "inlines": [
            {
                "function": clean(inline.function),
                "file": clean(inline.file),
                "line": inline.line,
                "column": inline.column,
            }
            for inline in frame.inlines
        ],
        "source": [[number, clean(text)] for number, text in frame.source],
        "disassembly": [_instruction(each, clean) for each in frame.instructions],
        "arguments": _values(frame.arguments, clean),
        "locals": _values(frame.locals, clean),
        "notes": [clean(note) for note in frame.notes],
    }


def _instruction(instruction: Instruction, clean: Clean) -> dict[str, Any]:
    return {
        "address": _hex(instruction.address),
        "bytes": instruction.bytes.hex(),
        "text": clean(instruction.text),
        "file": clean(instruction.file),
        "line": instruction.line,
        "current": instruction.current,
        "note": clean(instruction.note),
        "target": _hex(instruction.target),
    }


def _values(values: Sequence[Value], clean: Clean) -> dict[str, Any]:
    """By name: of several in functions inlined into each other, the innermost one's."""
    told: dict[str, Any] = {}
    for value in values:
        told.setdefault(clean(value.name) or "?", _value(value, clean))
    return told


def _value(value: Value, clean: Clean) -> dict[str, Any]:
    return {
        "type": clean(value.type),
        "value": clean(value.text),
        "origin": clean(value.origin),
        "unavailable": clean(value.unavailable),
        "meaning": clean(value.meaning),
        "function": clean(value.function),
    }


def _hex(number: int | None) -> str | None:
    return None if number is None else f"{number:#x}"
