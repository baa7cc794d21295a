"""Who holds a lock that records no holder, told from call traces and code, with evidence."""

from faultkit.infer.holders import MOST_CANDIDATES, Suspect, infer_holders, resolve

__all__ = ["MOST_CANDIDATES", "Suspect", "infer_holders", "resolve"]
