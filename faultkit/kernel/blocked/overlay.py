"""Overlay file systems: the layer that is written to (fs/overlayfs/ovl_entry.h)."""

from faultkit.kernel.objects import is_kernel_pointer, pointer, text
from faultkit.kernel.system import System
from faultkit.target import FaultkitError


def mount_options(system: System, block: int) -> tuple[str, ...]:
    """upperdir=PATH of an overlay's super block; () where it has none, or that can't be told."""
    kernel = system.kernel
    try:
        state = pointer(kernel, block, "super_block", "s_fs_info")
        path = pointer(kernel, state, "ovl_fs", "config.upperdir")
        return (f"upperdir={text(kernel, path)}",) if is_kernel_pointer(path) else ()
    except FaultkitError:
        return ()
