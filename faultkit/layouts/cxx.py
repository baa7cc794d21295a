"""C++ static-local guards (Itanium C++ ABI 3.3.3) as libstdc++ sets them."""

PENDING = 0x100  # the second byte: the initialiser is running
WAITING = 0x10000  # the third: somebody sleeps on the guard (libsupc++/guard.cc)
DONE = 1
