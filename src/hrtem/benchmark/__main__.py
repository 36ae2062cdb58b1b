"""``python -m hrtem.benchmark [imaging|waves|convergence]``: imaging where nothing is said."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = ("imaging", "waves", "convergence")


def main(words: list[str]) -> int:
    """Run the benchmark that the first word names; the others are its arguments. Returns the exit status."""
    name, *rest = words or ["imaging"]
    if name not in BENCHMARKS:
        print(f"error: the benchmark must be one of {', '.join(BENCHMARKS)}, got {name}.", file=sys.stderr)
        return 2
    import_module(f"hrtem.benchmark.{name}").main(*map(float, rest))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
