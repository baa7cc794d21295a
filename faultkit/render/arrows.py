"""Jumps inside a listing as arrows in its margin."""

from collections.abc import Sequence

from faultkit.decode.model import Instruction

MOST_LANES = 4


def arrows(instructions: Sequence[Instruction]) -> list[str]:
    """For each instruction what stands before it, all of one width; "" if nothing jumps inside
    the listing.

    The shortest jumps are nearest to the code; those that find no lane are left out.
    """
    places = {instruction.address: index for index, instruction in enumerate(instructions)}
    jumps = []
    for index, instruction in enumerate(instructions):
        target = places.get(instruction.target) if instruction.target is not None else None
        if target is not None and target != index:
            jumps.append((min(index, target), max(index, target), index, target))
    jumps.sort(key=lambda jump: jump[1] - jump[0])
    lanes: list[list[tuple[int, int, int, int]]] = []
    for jump in jumps:
        for lane in lanes:
            if all(jump[1] < other[0] or jump[0] > other[1] for other in lane):
                lane.append(jump)
                break
        else:
            if len(lanes) < MOST_LANES:
                lanes.append([jump])
    if not lanes:
        return [""] * len(instructions)
    width = 2 * len(lanes) + 2
    rows = [[" "] * width for _ in instructions]
    for number, lane in reversed(list(enumerate(lanes))):
        column = width - 4 - 2 * number
        for first, last, source, target in lane:
            for index in range(first + 1, last):
                rows[index][column] = "|"
            for index, corner in ((first, ","), (last, "`")):
                rows[index][column] = corner
                for place in range(column + 1, width - 1):
                    rows[index][place] = "-"
            rows[target][width - 2] = ">"
            if rows[source][width - 2] == " ":
                rows[source][width - 2] = "-"
    return ["".join(row) for row in rows]
