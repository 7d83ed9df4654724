"""Fused operations of a language model: for each one a definition, a plain-torch tile and a Triton tile.

One file an op; `bench/kernel_ops.py` lists them all with their floors and the shapes they are compiled for, and drives
the tests.
Nothing here takes a lock, uses an atomic or writes into its inputs, so results do not depend on scheduling.
"""
