"""Who holds a lock that records no holder, told from call traces and code, with evidence."""

from faultkit.infer.holders import Suspect, infer_holders, resolve

__all__ = ["Suspect", "infer_holders", "resolve"]
