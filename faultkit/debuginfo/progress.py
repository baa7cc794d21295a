"""What takes long, told to whoever sits at a terminal."""

from __future__ import annotations

from collections.abc import Callable

show: Callable[[str], object] | None = None  # is given a line of text, often


def tell(text: str) -> None:
    """Say what is being done."""
    if show is not None:
        show(text)
