"""Cost and limits of the stages, and scores on real micrographs; ``python -m hrtem.benchmark`` says which there are."""
