"""The card of a model: its training data, settings and scores in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import hrtem
from hrtem import provenance
from hrtem.inference import trust
from hrtem.inference.network import ColumnNetwork

#: Titles of the parts of the settings, in the order of the card.
STAGES = {"sample": "Structures", "optics": "Microscope", "noise": "Detector", "model": "Network", "peaks": "Peaks"}
#: Headers of the table of scores for the names in ``metrics.json``.
SCORES = {"f1": "F1", "precision": "precision", "recall": "recall", "error_pm": "position error (pm)"}


def card(name: str, network: ColumnNetwork, checkpoint: Path, notes: str = "") -> str:
    """Write the card of a model in Markdown.

    Args:
        name: name of the model.
        network: the trained network.
        checkpoint: checkpoint file of the network; ``metrics.json`` of its run folder is read if it exists.
        notes: text that is appended to the card.
    """
    hparams = network.settings
    needed = trust.foreign(hparams)
    images = network.optics.num_images
    takes = "single images" if images == 1 else f"focal series of {images} images"
    domain = "measured" if network.domain.known else "not known"
    lines = [
        f"# {name}",
        "",
        f"Finds {', '.join(network.classes)} in {takes}. Trained on simulated images only, on no real image.",
        "",
        f"* pixel size: images are brought to {network.sampling:g} Å/px",
        f"* parameters: {sum(parameter.numel() for parameter in network.net.parameters()):,}",
        f"* `in_domain` of the table, whether an image is like those of the training, is {domain}",
        f"* exported {date.today().isoformat()} by hrtem {hrtem.__version__} from a checkpoint with SHA-256 "
        f"`{provenance.sha256(checkpoint)}`",
        "",
        *([f"It needs code that is not part of hrtem: `{'`, `'.join(needed)}`.", ""] if needed else []),
        "## Training images",
        "",
        "Each training image drew a random value from a range, which is a list of two. Lengths are in Å, energies in "
        "eV, doses in e/Å². Do not trust the model beyond these ranges.",
        "",
        *(line for stage, title in STAGES.items() for line in _settings(title, hparams[stage])),
        *_scores(checkpoint),
    ]
    return "\n".join([*lines, notes.strip(), ""]).rstrip() + "\n"


def _settings(title: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a table of the settings of a stage."""
    kind = str(settings.get("_target_", "")).rpartition(".")[2]
    yield from (f"### {title}: `{kind}`", "", "| setting | value |", "|---|---|")
    for key, value in settings.items():
        if key == "_target_":
            continue
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, one in inner:
            yield f"| `{key}{'.' if name else ''}{name}` | {json.dumps(one)} |"
    yield ""


def _scores(checkpoint: Path) -> Iterator[str]:
    """Lines of a table of the scores on simulated test images; none if the run has not been tested."""
    path = checkpoint.resolve().parent.parent / "metrics.json"
    if not path.is_file():
        return
    doses = json.loads(path.read_text())
    yield from (
        "## Scores on simulated images",
        "",
        "The test images are drawn from the same ranges, at given doses.",
        "",
    )
    yield "| dose (e/Å²) | class | " + " | ".join(SCORES.values()) + " |"
    yield "|---" * (2 + len(SCORES)) + "|"
    for dose, classes in doses.items():
        for name, score in classes.items():
            if name != "all" and len(classes) == 2:
                continue
            digits = (f"{score[key]:.{1 if key == 'error_pm' else 3}f}" if key in score else "" for key in SCORES)
            yield f"| {float(dose):,.0f} | {name} | " + " | ".join(digits) + " |"
    yield ""
