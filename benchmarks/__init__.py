"""Benchmarks of speed, theoretical limits and accuracy; :data:`benchmarks.__main__.BENCHMARKS` lists them."""
