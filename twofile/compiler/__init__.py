"""Kernels become object code once; later runs load it without importing numba."""
