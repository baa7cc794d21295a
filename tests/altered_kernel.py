"""A kernel whose memory reads differently in places than the dump has it: what a bug, failing
memory or half a dump would leave."""

import struct
from typing import Optional

from drgn_kernel import DrgnKernel

from faultkit.target import ReadError


class AlteredKernel(DrgnKernel):
    """A kernel like another one, but for the words put over it."""

    def __init__(self, original: DrgnKernel) -> None:
        self.__dict__.update(original.__dict__)
        self.words_over: dict[int, Optional[int]] = {}

    def put(self, address: int, *values: Optional[int]) -> None:
        """Let 64-bit words from `address` on read as these values; None: they can't be read."""
        for number, value in enumerate(values):
            self.words_over[address + 8 * number] = value

    def read(self, address: int, size: int) -> bytes:
        data = super().read(address, size)
        if not self.words_over:
            return data
        first = address & ~7
        if size > 8 * len(self.words_over):
            places = [at for at in self.words_over if first <= at < address + size]
        else:
            places = [at for at in range(first, address + size, 8) if at in self.words_over]
        changed = bytearray(data)
        for at in places:
            value = self.words_over[at]
            if value is None:
                raise ReadError(address, size)
            for number, byte in enumerate(struct.pack("<Q", value)):
                if 0 <= at + number - address < size:
                    changed[at + number - address] = byte
        return bytes(changed)
