"""The order in which to solve a set of systems, so that each is near the one before it."""

from krylearn.learned.recycling.features import features
from krylearn.learned.recycling.order import greedy_order, hilbert_order, order

__all__ = ["features", "greedy_order", "hilbert_order", "order"]
