"""What kernels are written in."""
