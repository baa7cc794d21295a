"""User tasks: guest/futexes.c, files.c, streams.c, device.c, mounts.c."""

from .model import Expect, Fault, Stuck, cycle, pair, quiet


def _pair(name: str, prefix: str, *kinds: str, confidence: str = "") -> Fault:
    return pair(name, prefix, *kinds, kernel=False, confidence=confidence)


FUTEXES = (
    _pair("user_mutex", "um", "pthread_mutex"),
    _pair("user_mutex_shared", "us", "pthread_mutex"),
    _pair("user_mutex_pi", "up", "pthread_mutex", ""),
    _pair("user_mutex_timed", "ut", "pthread_mutex"),
    _pair("user_mutex_robust", "ur", "pthread_mutex"),
    _pair("user_rwlock", "uw", "rwlock"),
    Fault(
        "user_rwlock_reader",
        ("ux-*",),
        (cycle(("ux-a", "ux-b"), "pthread_mutex", "rwlock", confidence="inferred"),),
        guest=("user_rwlock_reader",),
        unsure=True,
        notes="its readers are not recorded",
    ),
    _pair("user_join", "uj", "join", "pthread_mutex"),
    quiet("user_quiet", "uq-*", kernel=False, allowed=(Expect("chain", root="uq-sleeper"),)),
)

FILES = (
    _pair("flock_abba", "fl", "flock"),
    _pair("posix_flock", "po", "flock", "posix_lock"),
    _pair("ofd_abba", "of", "ofd_lock"),
    _pair("pipe_cycle", "pc", "pipe"),
    _pair("pipe_full", "pf", "pipe"),
    _pair("unix_cycle", "un", ""),
    _pair("sysv_semaphore", "sv", "sysv_sem"),
    Fault(
        "wait_child",
        ("ch-*",),
        (cycle(("ch-parent", "ch-child"), "", "flock"),),
        guest=("wait_child",),
    ),
)

STREAMS = (
    _pair("poll_cycle", "pl", "pipe"),
    _pair("unix_accept", "ul", "unix_socket", "flock"),
    _pair("tcp_cycle", "tc", "tcp_socket"),
    _pair("sysv_messages", "mq", "sysv_msg", confidence="inferred"),
    quiet("stream_quiet", "qs-*", kernel=False),
)

MIXED = (
    _pair("user_kernel", "uk", "kmutex", "pthread_mutex"),
    Fault(
        "user_kthread",
        ("dev-*",),
        (cycle(("dev-kthread", "dev-user"), "kmutex", "kmutex", confidence="proven"),),
        kernel=("device_kthread",),
        guest=("user_kthread",),
    ),
    Fault(
        "user_chain",
        ("uc-*",),
        (cycle(("uc-a", "uc-b", "uc-c"), "flock", "kmutex", "pthread_mutex"),),
        guest=("user_chain",),
    ),
)

MOUNTS = (
    Fault(
        "fuse_silent",
        ("fuse-*",),
        allowed=(Expect("chain"),),
        guest=("fuse_silent",),
        stuck=(
            Stuck(
                "fuse",
                ("fuse-client",),
                ("file-system /silent fuse.faultlab", "server fuse-server sleeping in "),
                calls="/silent/file",
            ),
        ),
    ),
    Fault(
        "fuse_flock",
        ("ff-*",),
        (cycle(("ff-client", "ff-server"), "", "flock"),),
        allowed=(Expect("chain"),),
        guest=("fuse_flock",),
        unsure=True,
        stuck=(Stuck("fuse", ("ff-client",), ("server ff-server *", "task ff-client")),),
    ),
    Fault(
        "frozen",
        ("frozen-*",),
        allowed=(Expect("chain"),),
        guest=("frozen",),
        notes="thawing it is up to user space",
        stuck=(
            Stuck(
                "frozen-fs",
                ("frozen-create", "frozen-write"),
                ("file-system /frozen ext4 from /dev/ram0, frozen",),
                calls="openat /frozen/new",
            ),
        ),
    ),
)

ALL = (*FUTEXES, *FILES, *STREAMS, *MIXED, *MOUNTS)
