"""Cost and limits of the stages, and scores on real micrographs; ``python -m benchmarks`` says which there are."""
