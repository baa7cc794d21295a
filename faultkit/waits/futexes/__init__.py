"""Providers for waits on a futex: one kind of lock, or of wait, a file; see faultkit.waits."""
