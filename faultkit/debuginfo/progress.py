"""What takes long, told to whoever sits at a terminal."""

from typing import Callable, Optional

show: Optional[Callable[[str], object]] = None  # is given a line of text, often


def tell(text: str) -> None:
    """Say what is being done."""
    if show is not None:
        show(text)
