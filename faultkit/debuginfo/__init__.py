"""From an address to its lines: debug information of kernels, modules and programs.

DWARF 4 and 5 as gcc, clang and rustc write it, read piece by piece: of the unit that covers an
address nothing is read that the answer does not need.  `DebugFile` is one file, `Kernel` a
vmlinux and its modules; `find` knows where such files are, `cache` keeps what was found.
"""
