"""Solvers on a CUDA device: where the data lies decides where the work runs."""
