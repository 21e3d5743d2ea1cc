"""Experiments of papers, done again: each module runs by ``python -m`` and prints its table."""
