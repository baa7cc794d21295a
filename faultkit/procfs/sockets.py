"""Sockets: the kernel's tables of unix and TCP sockets, by inode number."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from faultkit.procfs.process import read_proc
from faultkit.record import NamedTuple

# include/uapi/linux/{netlink,sock_diag,unix_diag}.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
UDIAG_SHOW_NAME, UDIAG_SHOW_PEER, UDIAG_SHOW_ICONS, UDIAG_SHOW_RQLEN = 0x1, 0x4, 0x8, 0x10
UNIX_DIAG_NAME, UNIX_DIAG_PEER, UNIX_DIAG_ICONS, UNIX_DIAG_RQLEN = 0, 2, 3, 4

# include/net/tcp_states.h
ESTABLISHED, SYN_SENT, FIN_WAIT2, CLOSE_WAIT, LISTEN = 1, 2, 5, 8, 10

Endpoint = tuple[bytes, int]  # address of 4 or 16 bytes, port


class UnixSocket(NamedTuple):
    """One unix socket.  `peer` is the inode it is connected to: 0 when the other side has not
    been accepted yet or is closed, None when it isn't connected.  `pending` are the inodes of
    the clients in a listening socket's queue; `queued` is what waits to be read (for a
    listening socket: to be accepted)."""

    inode: int
    type: int
    state: int
    name: bytes | None
    peer: int | None
    pending: tuple[int, ...]
    queued: int


class TcpSocket(NamedTuple):
    """One line of /proc/net/tcp or tcp6; v4-mapped addresses are given as the v4 ones.

    `unsent` counts bytes that the other side has not acknowledged, `unread` those that the
    process has not read; `inode` is 0 while no process has the socket."""

    local: Endpoint
    remote: Endpoint
    state: int
    unsent: int
    unread: int
    inode: int


def unix_sockets() -> dict[int, UnixSocket]:
    """The unix sockets of our network namespace, by inode (net/unix/diag.c).

    Raises OSError where the kernel has no unix_diag."""
    import socket  # much to load for what few reports need

    show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN
    request = struct.pack(
        "=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, show, 0xFFFFFFFF, 0xFFFFFFFF
    )
    header = struct.pack(
        "=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0
    )
    found: dict[int, UnixSocket] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(5)
        netlink.send(header + request)
        for _ in range(1 << 16):  # datagrams
            for kind, body in _messages(netlink.recv(1 << 20)):
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
                    raise OSError(number, os.strerror(number))
                if kind == SOCK_DIAG_BY_FAMILY and len(body) >= 16:
                    unix = _unix_socket(body)
                    found[unix.inode] = unix
    return found


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (type, body) of each netlink message in a datagram."""
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            return
        yield kind, data[at + 16 : at + length]
        at += (length + 3) & ~3


def _unix_socket(body: bytes) -> UnixSocket:
    _, kind, state, _, inode = struct.unpack_from("=BBBBI", body)
    values = {}
    at = 16  # struct unix_diag_msg, with its cookie
    while at + 4 <= len(body):
        length, name = struct.unpack_from("=HH", body, at)
        if length < 4:
            break
        values[name] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    peer = values.get(UNIX_DIAG_PEER, b"")
    icons = values.get(UNIX_DIAG_ICONS, b"")
    queue = values.get(UNIX_DIAG_RQLEN, b"")
    return UnixSocket(
        inode,
        kind,
        state,
        values.get(UNIX_DIAG_NAME),
        struct.unpack("=I", peer)[0] if len(peer) == 4 else None,
        struct.unpack(f"={len(icons) // 4}I", icons[: len(icons) // 4 * 4]),
        struct.unpack_from("=I", queue)[0] if len(queue) >= 4 else 0,
    )


def tcp_sockets(pid: int) -> list[TcpSocket]:
    """The TCP sockets of the process's network namespace; [] if they can't be read."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            text = read_proc(f"/proc/{pid}/net/{name}", 1 << 27).decode("ascii", "replace")
        except OSError:
            continue
        for line in text.splitlines()[1:]:
            parsed = parse_tcp(line)
            if parsed is not None:
                found.append(parsed)
    return found


def parse_tcp(line: str) -> TcpSocket | None:
    """A line of /proc/net/tcp{,6} (get_tcp4_sock in net/ipv4/tcp_ipv4.c); None if it isn't."""
    words = line.split()
    try:
        unsent, _, unread = words[4].partition(":")
        return TcpSocket(
            _endpoint(words[1]),
            _endpoint(words[2]),
            int(words[3], 16),
            int(unsent, 16),
            int(unread, 16),
            int(words[9]),
        )
    except (ValueError, IndexError):
        return None


def _endpoint(text: str) -> Endpoint:
    """ "0100007F:1F90": the address as 32-bit words in the machine's byte order."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    if len(raw) not in (4, 16):
        raise ValueError(text)
    if raw[:12] == bytes(10) + b"\xff\xff":
        raw = raw[12:]
    return raw, int(port, 16)


def endpoint_name(endpoint: Endpoint) -> str:
    """ "127.0.0.1:5432", "[::1]:5432"."""
    import socket

    address, port = endpoint
    if len(address) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, address)}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}"


def is_loopback(address: bytes) -> bool:
    """127/8 or ::1."""
    return address[:1] == b"\x7f" if len(address) == 4 else address == bytes(15) + b"\1"
