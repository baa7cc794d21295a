"""Oopses: guests/oops, whose module dies in its own code."""

from .model import Fault

NULL = (Fault("oops_null", ("oops_null",), guest=("oops_null",)),)
