"""Many trainings: a search for the best words, and trained runs beside each other."""
