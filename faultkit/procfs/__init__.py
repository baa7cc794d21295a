"""Live processes through /proc: nothing is attached, nothing is paused."""
