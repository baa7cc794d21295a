"""A kernel whose memory is damaged: what no code may fall for."""

import random

from faultkit.kernel.target import Kernel
from faultkit.target import ReadError


class Damaged:
    """A view of a host whose memory is damaged: each read may fail, or have a word replaced by
    another pointer that was seen, by garbage, or by a pointer to itself.  Tasks' states and
    stacks stay sound, as the rest is then not asked at all."""

    def __init__(self, host: Kernel, seed: int, rate: float, user_only: bool = False) -> None:
        self._host = host
        self._random = random.Random(seed)
        self._rate = rate
        self._user_only = user_only
        self._pointers = [0, 1, 0xFFFF_8880_0000_0000, (1 << 64) - 1, 0x7FFF_F000]
        self.damaged = 0

    def __getattr__(self, name):
        return getattr(self._host, name)

    def read(self, address, size):
        data = self._host.read(address, size)
        return data if self._user_only else self._damage(address, data)

    def read_user(self, task, address, size):
        return self._damage(address, self._host.read_user(task, address, size))

    def u32(self, address):
        return int.from_bytes(self.read(address, 4), "little")

    def u64(self, address):
        return int.from_bytes(self.read(address, 8), "little")

    def words(self, address, count):
        return Kernel.words(self, address, count)

    def _damage(self, address, data):
        chance = self._random.random()
        if chance > self._rate:
            if len(data) >= 8 and chance > 0.99:
                self._pointers.append(int.from_bytes(data[:8], "little"))
            return data
        self.damaged += 1
        if chance < self._rate / 4:
            raise ReadError(address, len(data))
        at = self._random.randrange(max(len(data) // 8, 1)) * 8
        word = self._random.choice(
            (self._random.choice(self._pointers), address, self._random.getrandbits(64))
        )
        return (data[:at] + word.to_bytes(8, "little") + data[at + 8 :])[: len(data)]
