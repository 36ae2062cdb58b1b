"""Reads mutated copies of files, in a process of its own that may only have so much memory.

    python tests/mutated_micrographs.py folder seed number kind [kind ...]

Prints a line of JSON a kind: how many mutations were read, how many refused, and by how much the peak memory grew. A
mutation that does anything else than be read or refused in one sentence ends the process.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import zlib
from pathlib import Path

import numpy as np
import recorded

from hrtem.errors import InputError
from hrtem.micrograph import open_recordings

#: Bytes that the process may have beyond what its imports took, and seconds that a mutation may take.
MEMORY, SECONDS = 2**31, 20
#: What counters and lengths become.
EXTREMES = [0, 1, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1]


class TooSlow(BaseException):
    """A mutation took too long; no reader may catch it."""


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A copy with one to four changes, most of them near either end, where headers and tables lie."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        length = max(1, len(data))
        near = min(length, int(rng.choice([64, 1200, length])))
        place = int(rng.integers(near)) if rng.random() < 0.8 else length - 1 - int(rng.integers(near))
        kind = rng.integers(7)
        if kind == 0:
            data[place : place + 1] = bytes([int(rng.integers(256))])
        elif kind == 1:
            data[place : place + 1] = bytes([(data[place] if place < len(data) else 0) ^ (1 << int(rng.integers(8)))])
        elif kind == 2:
            size, order = int(rng.choice([2, 4, 8])), str(rng.choice(["little", "big"]))
            value = EXTREMES[int(rng.integers(len(EXTREMES)))] % 2 ** (8 * size)
            data[place : place + size] = value.to_bytes(size, order)  # type: ignore[arg-type]
        elif kind == 3:
            del data[place:]
        elif kind == 4:
            del data[place : place + int(rng.integers(1, 40))]
        elif kind == 5:
            data[place:place] = bytes(rng.integers(0, 256, int(rng.integers(1, 40)), dtype=np.uint8))
        else:
            data[place : place + 64] = bytes(64)
    return bytes(data)


def attempt(path: Path) -> str:
    """Read all frames of a file: "read", or the sentence that refuses it."""
    signal.alarm(SECONDS)
    try:
        for recording in open_recordings(path, focal=1):
            for number in {0, len(recording) - 1}:
                image = recording[number].images
                assert image.dtype == np.float32
                assert np.isfinite(image).all()
            recording.close()
        return "read"
    except InputError as error:
        sentence = str(error)
        assert sentence.startswith(str(path.parent)), sentence
        assert sentence.endswith("."), sentence
        assert "\n" not in sentence, sentence
        return sentence
    finally:
        signal.alarm(0)


def main(folder: Path, seed: int, number: int, kinds: list[str]) -> None:
    """Mutate ``number`` times each kind of file and print what became of them."""

    def too_slow(*_: object) -> None:
        raise TooSlow(f"it took more than {SECONDS} s")

    signal.signal(signal.SIGALRM, too_slow)
    images = np.random.default_rng(0).integers(50, 200, (3, 24, 32)).astype(np.float32)
    for kind in kinds:
        place = folder / kind
        place.mkdir(parents=True)
        path = recorded.write(place, kind, images)
        assert attempt(path) == "read", attempt(path)
        parts = [part for part in sorted(place.rglob("*")) if part.is_file()]
        contents = [part.read_bytes() for part in parts]
        virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY, resource.RLIM_INFINITY))
        before, read = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
        for trial in range(number):
            rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), trial])
            which = int(rng.integers(len(parts)))
            parts[which].write_bytes(mutated(contents[which], rng))
            print(f"{kind} {trial}", file=sys.stderr, flush=True)  # the last line tells what ended the process
            read += attempt(path) == "read"
            parts[which].write_bytes(contents[which])
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(json.dumps({"kind": kind, "read": read, "refused": number - read, "grown_mib": round(grown)}), flush=True)
        shutil.rmtree(place)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
