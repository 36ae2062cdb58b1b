"""Cost and limits of the stages: ``python -m hrtem.benchmark imaging|waves|convergence|limits|real``."""
