"""How long a newcomer waits: `import krylearn`, and the first call with a cold and a warm cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from statistics import median

_IMPORT = """
import time; t = time.perf_counter()
import krylearn
print(time.perf_counter() - t)
"""
_FIRST = """
import time, numpy as np, scipy.sparse as sp
import krylearn as kl
A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(1000, 1000)).tocsr()
b = np.ones(1000)
t = time.perf_counter()
x, info = kl.cg(A, b)
print(time.perf_counter() - t)
"""
# What the project wants, in seconds.
TARGETS = {"import krylearn": 0.3, "first cg call, cold cache": 2.0,
           "first cg call, warm cache": 0.5}  # fmt: skip


def _seconds(code: str, cache: str) -> float:
    environment = dict(os.environ, NUMBA_CACHE_DIR=cache)
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True,
                          capture_output=True, timeout=300, check=True)  # fmt: skip
    return float(done.stdout.split()[-1])


def measure_startup(runs: int = 5) -> dict[str, float]:
    """Return the seconds of the import and of a first `cg` call, each in fresh processes.

    The first call includes the import of Numba, and excludes those of numpy and scipy.sparse.
    A process that fails or hangs leaves its figures out.
    """
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="krylearn-cache-") as cache:
        try:
            found["import krylearn"] = median(_seconds(_IMPORT, cache) for _ in range(runs))
            found["first cg call, cold cache"] = _seconds(_FIRST, cache)
            warm = median(_seconds(_FIRST, cache) for _ in range(runs))
            found["first cg call, warm cache"] = warm
        except (subprocess.SubprocessError, ValueError, IndexError):
            pass
    return found
