"""A FUSE file system that goes deaf: deaf_fuse.py MOUNTPOINT [BYTES]

Every name is a file of BYTES bytes, kept in memory; names that begin with "no" do not exist.  It
says "ready CONNECTION" once it is mounted, and never answers

- a look-up of a name that begins with "lost",
- a read, write or fsync of a file whose name holds "hang",
- anything at all once SIGUSR1 has come.
"""

import ctypes
import errno
import os
import signal
import stat
import struct
import sys

# include/uapi/linux/fuse.h
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE = 1, 2, 3, 4, 14, 15, 16
STATFS, RELEASE, FSYNC, FLUSH, INIT = 17, 18, 20, 25, 26
OPENDIR, READDIR, RELEASEDIR, BATCH_FORGET = 27, 28, 29, 42
HEADER = struct.Struct("=IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding


class Deaf:
    """The file system: answers to requests, or None for silence."""

    def __init__(self, size):
        self.data = bytearray(size)
        self.names = {1: ""}
        self.deaf = False

    def attributes(self, node):
        size = 0 if node == 1 else len(self.data)
        mode = stat.S_IFDIR | 0o755 if node == 1 else stat.S_IFREG | 0o666
        numbers = (node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
        return struct.pack("=6Q10I", *numbers)

    def answer(self, opcode, node, body):
        """(error, bytes), or None for no answer."""
        if self.deaf or opcode in (FORGET, BATCH_FORGET):
            return None
        if "hang" in self.names.get(node, "") and opcode in (READ, WRITE, FSYNC):
            return None
        if opcode == INIT:
            flags = (7, 31, 131072, 0, 12, 10, 131072, 1, 32, 0, 0, 0, 0, 0, 0, 0)
            return 0, struct.pack("=IIIIHHIIHHIIIIII", *flags)
        if opcode == LOOKUP:
            return self.look_up(body.rstrip(b"\0").decode())
        if opcode in (GETATTR, SETATTR):
            return 0, struct.pack("=QII", 0, 0, 0) + self.attributes(node)
        if opcode in (OPEN, OPENDIR):
            return 0, struct.pack("=QII", 1, 0, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("=QQI", body)
            return 0, bytes(self.data[offset : offset + size])
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("=QQI", body)
            self.data[offset : offset + size] = body[40 : 40 + size]
            return 0, struct.pack("=II", size, 0)
        if opcode == STATFS:
            return 0, struct.pack("=5Q3I28x", 1000, 1000, 1000, 1000, 1000, 4096, 255, 4096)
        if opcode in (RELEASE, RELEASEDIR, FLUSH, FSYNC, READDIR):
            return 0, b""
        return errno.ENOSYS, b""

    def look_up(self, name):
        if name.startswith("lost"):
            return None
        if name.startswith("no") or name == "core":
            return errno.ENOENT, b""
        node = next((node for node, known in self.names.items() if known == name), None)
        if node is None:
            node = len(self.names) + 1
            self.names[node] = name
        return 0, struct.pack("=4Q2I", node, 0, 0, 0, 0, 0) + self.attributes(node)


def main():
    # Once mounted, asking for the point's attributes would ask this very process.
    point, size = os.path.realpath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1 << 20
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"deaf", os.fsencode(point), b"fuse.deaf", 0, options.encode()):
        print("skip", os.strerror(ctypes.get_errno()), flush=True)
        return
    files = Deaf(size)

    def go_deaf(*_):
        files.deaf = True

    signal.signal(signal.SIGUSR1, go_deaf)
    with open("/proc/self/mountinfo") as mounts:
        lines = [line.split() for line in mounts]
    number = next(line[2] for line in reversed(lines) if line[4] == point)
    print("ready", number.partition(":")[2], flush=True)
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):
                continue
            return  # unmounted, or aborted
        _, opcode, unique, node, *_ = HEADER.unpack_from(request)
        answer = files.answer(opcode, node, request[HEADER.size :])
        if answer is not None:
            error, data = answer
            os.write(device, struct.pack("=IiQ", 16 + len(data), -error, unique) + data)


main()
