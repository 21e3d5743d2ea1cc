"""Relaxation parameters chosen online, along a sequence of systems."""

from krylearn.learned.relaxation.chebcb import ChebCB
from krylearn.learned.relaxation.joint import YoungCB
from krylearn.learned.relaxation.policy import Learner, Policy
from krylearn.learned.relaxation.references import ExploreThenCommit, Fixed, Young
from krylearn.learned.relaxation.tsallis import BinnedTsallisINF, TsallisINF

__all__ = [
    "BinnedTsallisINF",
    "ChebCB",
    "ExploreThenCommit",
    "Fixed",
    "Learner",
    "Policy",
    "TsallisINF",
    "Young",
    "YoungCB",
]
