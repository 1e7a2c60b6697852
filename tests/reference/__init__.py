"""Slow, obvious models of the C kernels, written from the specification and never from the C."""
