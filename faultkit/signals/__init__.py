"""Signals: what their siginfo says, where they came from, and why: one module per origin."""
