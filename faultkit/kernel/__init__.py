"""Kernels: what a host that shows one must offer, and how to read its objects and tasks."""
