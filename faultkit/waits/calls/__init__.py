"""Providers for waits in other system calls: one kind a file; see faultkit.waits."""
