"""Entry point ``python -m benchmarks NAME``, with a name from :data:`BENCHMARKS`; the default is imaging."""

from __future__ import annotations

import sys
from importlib import import_module

from hrtem.commandline import end_in_one_sentence

BENCHMARKS = (
    "imaging",
    "waves",
    "coherence",
    "convergence",
    "limits",
    "joint",
    "fit",
    "training",
    "detection",
    "inference",
    "real",
    "dynamics",
    "models",
    "robustness",
)


def main(words: list[str]) -> int:
    """Run the benchmark in the first word with the other words as arguments, and return the exit status."""
    name, *rest = words or ["imaging"]
    if name not in BENCHMARKS:
        print(f"error: the benchmark must be one of {', '.join(BENCHMARKS)}, got {name}.", file=sys.stderr)
        return 2
    with end_in_one_sentence():
        import_module(f"benchmarks.{name}").main(*rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
