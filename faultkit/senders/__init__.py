"""Every place in a kernel's code that sends a signal, by its machine code.

`calls` finds the calls, `values` what their arguments can be, `trace` follows arguments through
wrappers to the places that choose the signal; `words` says when such a place is come to.
"""
