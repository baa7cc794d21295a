"""faultkit: who waits for whom, for the debuggers support engineers already use."""

__version__ = "0.1.0"
