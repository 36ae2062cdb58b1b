"""What the stages cost, and how far they can be trusted: ``python -m hrtem.benchmark imaging|waves|convergence``."""
