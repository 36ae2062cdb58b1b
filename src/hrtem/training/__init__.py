"""Networks learn from simulated images: data, task, precision, checkpoints, loggers, and what a run leaves."""
