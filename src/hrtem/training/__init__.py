"""Training of networks on simulated images: data, task, precision, checkpoints, loggers and the output of a run."""
