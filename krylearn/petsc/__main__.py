"""Prints the PYTHONPATH with which ``prog -python`` finds petsc4py and this library."""

import os
import sysconfig
from pathlib import Path

import krylearn

here = str(Path(krylearn.__file__).parent.parent)
print(os.pathsep.join(dict.fromkeys([here, sysconfig.get_path("purelib")])))
