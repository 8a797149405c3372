"""A forward as data: records, buffers, the threads that play them."""
