"""Code of the target: its images, their symbols, call frames and instructions.

Everything here is computed from a memory reader, a list of mappings and files; no debugger.
"""

from faultkit.target import FaultkitError


class FormatError(FaultkitError):
    """An object file, or its copy in memory, that does not keep its format's rules."""
