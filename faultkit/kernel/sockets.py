"""Sockets of a dump: unix ones with their peers, TCP ones with their ends."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property

from faultkit.kernel.files import Files
from faultkit.kernel.objects import BrokenList, Layout, is_kernel_pointer, need, ring, signed
from faultkit.kernel.target import Kernel
from faultkit.procfs.borrow import UNKNOWN, Readiness
from faultkit.procfs.sockets import ESTABLISHED, LISTEN, Endpoint, TcpSocket, UnixSocket
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
SOCK_STREAM, IPPROTO_TCP = 1, 6
RCV_SHUTDOWN, SEND_SHUTDOWN = 1, 2
FOREVER = (1 << 63) - 1  # MAX_SCHEDULE_TIMEOUT
MOST_PENDING = 4096  # connections that nobody has accepted


class Sock(NamedTuple):
    """A struct sock, its socket's inode number (0: no process has it) included."""

    address: int
    family: int
    state: int
    type: int
    protocol: int
    queued: int
    receive_timeout: int
    send_timeout: int
    shutdown: int
    send_buffer: int
    written: int
    socket: int
    net: int
    inode: int


class Sockets:
    """The sockets behind inodes.  Nothing raises but UnknownLayout."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.kernel: Kernel = files.kernel
        self._socks: dict[int, Sock | None] = {}

    @cached_property
    def _sock(self) -> Layout:
        common = "__sk_common."
        return Layout(
            self.kernel, "sock",
            f"{common}skc_family", f"{common}skc_state", "sk_type", "sk_protocol",
            "sk_receive_queue.qlen", "sk_rcvtimeo", "sk_sndtimeo", ("sk_shutdown", None),
            "sk_sndbuf", "sk_wmem_alloc", "sk_socket", (f"{common}skc_net.net", None),
        )  # fmt: skip

    @cached_property
    def _in_alloc(self) -> int:
        """From a struct socket to its inode (include/net/sock.h, struct socket_alloc)."""
        return need(self.kernel, "socket_alloc", "vfs_inode") - need(
            self.kernel, "socket_alloc", "socket"
        )

    def sock(self, address: int) -> Sock | None:
        """The struct sock at `address`."""
        if address not in self._socks:
            self._socks[address] = self._read(address)
        return self._socks[address]

    def _read(self, address: int) -> Sock | None:
        if not is_kernel_pointer(address):
            return None
        try:
            fields = self._sock.read(address)
        except FaultkitError:
            return None
        inode = self.files.inode(fields[10] + self._in_alloc) if fields[10] else None
        number = inode.number if inode is not None else 0
        return Sock._make((address, *fields, number))

    def of_inode(self, inode: int) -> Sock | None:
        """The struct sock behind a socket's inode, by the latter's address."""
        try:
            socket = inode - self._in_alloc
            return self.sock(self.kernel.u64(socket + need(self.kernel, "socket", "sk")))
        except FaultkitError:
            return None

    def readiness(self, inode: int, writing: bool) -> Readiness:
        """Whether the socket would go on now."""
        sock = self.of_inode(inode)
        if sock is None:
            return UNKNOWN
        timeout = signed(sock.send_timeout if writing else sock.receive_timeout)
        timed = 0 <= timeout < FOREVER
        if sock.shutdown & (SEND_SHUTDOWN if writing else RCV_SHUTDOWN):
            return Readiness(True, timed)
        if not writing:
            if sock.protocol == IPPROTO_TCP and sock.family in (AF_INET, AF_INET6):
                unread = self._tcp_counts(sock)[1]
                return Readiness(bool(unread) or sock.state != ESTABLISHED, timed)
            return Readiness(bool(sock.queued), timed)
        if sock.family == AF_UNIX:
            # net/unix/af_unix.c, unix_writable
            return Readiness(sock.written << 2 <= sock.send_buffer, timed)
        return Readiness(None, timed)

    # unix

    def unix(self, sock: Sock) -> UnixSocket | None:
        """The unix socket; None if it is none, or of no process."""
        if sock.family != AF_UNIX or not sock.inode:
            return None
        kernel = self.kernel
        try:
            peer = kernel.u64(sock.address + need(kernel, "unix_sock", "peer"))
            other = self.sock(peer) if peer else None
            name = self._unix_name(sock)
        except FaultkitError:
            return None
        return UnixSocket(
            sock.inode,
            sock.type,
            sock.state,
            name,
            (other.inode if other is not None else 0) if peer else None,
            tuple(self._pending(sock)) if sock.state == LISTEN else (),
            sock.queued,
        )

    def _unix_name(self, sock: Sock) -> bytes | None:
        """The bytes of sun_path that it is bound to."""
        kernel = self.kernel
        address = kernel.u64(sock.address + need(kernel, "unix_sock", "addr"))
        if not address:
            return None
        size = kernel.u32(address + need(kernel, "unix_address", "len"))
        if not 2 < size <= 110:  # a family, and a path of 108 bytes at most
            return None
        return kernel.read(address + need(kernel, "unix_address", "name") + 2, size - 2)

    def _pending(self, listener: Sock) -> Iterator[int]:
        """The inodes of the clients whose connections nobody has accepted: each is the peer of a
        sock that waits in the queue (net/unix/diag.c, sk_diag_dump_icons)."""
        kernel = self.kernel
        sk_at, peer_at = need(kernel, "sk_buff", "sk"), need(kernel, "unix_sock", "peer")
        head = listener.address + need(kernel, "sock", "sk_receive_queue")
        try:
            for skb in ring(kernel, head, MOST_PENDING):  # next and prev come first in sk_buff
                client = self.sock(kernel.u64(kernel.u64(skb + sk_at) + peer_at))
                if client is not None and client.inode:
                    yield client.inode
        except (BrokenList, FaultkitError):
            return

    # TCP

    @cached_property
    def _tcp(self) -> Layout:
        return Layout(self.kernel, "tcp_sock", "write_seq", "snd_una", "rcv_nxt", "copied_seq")

    @cached_property
    def _ends(self) -> Layout:
        return Layout(
            self.kernel, "sock_common", "skc_rcv_saddr", "skc_daddr", "skc_num", "skc_dport"
        )

    def _tcp_counts(self, sock: Sock) -> tuple[int, int]:
        """Bytes that the other side has not acknowledged, and bytes not read yet."""
        try:
            written, acknowledged, received, copied = self._tcp.read(sock.address)
        except FaultkitError:
            return 0, 0
        if sock.state == LISTEN:
            return 0, 0
        return (written - acknowledged) & 0xFFFFFFFF, (received - copied) & 0xFFFFFFFF

    def tcp(self, sock: Sock) -> TcpSocket | None:
        """The TCP socket; None if it is none."""
        if sock.protocol != IPPROTO_TCP or sock.family not in (AF_INET, AF_INET6):
            return None
        try:
            local, remote = self._endpoints(sock)
        except FaultkitError:
            return None
        unsent, unread = self._tcp_counts(sock)
        return TcpSocket(local, remote, sock.state, unsent, unread, sock.inode)

    def _endpoints(self, sock: Sock) -> tuple[Endpoint, Endpoint]:
        kernel = self.kernel
        local, remote, port, far_port = self._ends.read(sock.address)
        far_port = struct.unpack(">H", struct.pack("<H", far_port & 0xFFFF))[0]
        if sock.family == AF_INET:
            return (struct.pack("<I", local), port), (struct.pack("<I", remote), far_port)
        ends = []
        for member, number in (("skc_v6_rcv_saddr", port), ("skc_v6_daddr", far_port)):
            raw = kernel.read(sock.address + need(kernel, "sock_common", member), 16)
            ends.append((raw[12:] if raw[:12] == bytes(10) + b"\xff\xff" else raw, number))
        return ends[0], ends[1]
