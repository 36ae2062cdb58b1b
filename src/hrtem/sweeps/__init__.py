"""Several trainings: hyperparameter search and comparison of trained runs."""
