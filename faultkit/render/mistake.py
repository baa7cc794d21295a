"""What goes wrong, in one line that steers no terminal."""

import os

from faultkit.render.escape import clean


def one_line(error: BaseException) -> str:
    """The error's words."""
    return clean(" ".join(str(error).split()), 1000)


def unforeseen(error: Exception) -> str:
    """A mistake of ours, with the place to report."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = ""
    if place is not None:
        where = f" at {os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}"
    said = f"internal error: {type(error).__name__}: {one_line(error)}{where}"
    return f"{said}; please report it with the output of `faultkit doctor`"
