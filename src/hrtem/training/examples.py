"""Pictures of test images with the columns found in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from hrtem.report.drawing import circle, legend, save, show_image, show_maps
from hrtem.training.data import WaveDataModule, collate, columns_of
from hrtem.training.task import Task


def examples_figure(task: Task, data: WaveDataModule, path: Path, views: int = 2) -> Path:
    """Draw test images, the network's output, and the columns found over the image, at a low and a high dose.

    Args:
        task: the trained task.
        data: source of the test images.
        path: path of the PNG file.
        views: number of test views at each dose.

    Returns:
        ``path``.
    """
    order = sorted(data.optics.test_doses)
    doses = (order[min(1, len(order) - 1)], order[max(0, len(order) - 2)])
    images = data.images("test", 2 * views, doses=doses)
    batch = collate([images[number] for number in range(2 * views)])
    was_training = task.training
    task.eval()
    with torch.inference_mode():
        scene = task.simulate({name: _to(value, task.device) for name, value in batch.items()})
        maps = task(scene["images"])
    task.train(was_training)
    found = task.find(maps)
    true = columns_of(scene["positions"], scene["labels"], task.classes)
    figure = Figure(figsize=(3.2 * 2 * views, 10.2), layout="constrained")
    grid = figure.subplots(3, 2 * views, squeeze=False)
    for number in range(2 * views):
        column = grid[:, (number % 2) * views + number // 2]
        counts = scene["counts"][number].cpu().numpy()
        middle = counts[len(counts) // 2]
        defocus = float(batch["settings"]["defocus"][number].mean())
        column[0].set_title(f"{doses[number % 2]:,.0f} e/Å², defocus {defocus:.0f} Å", fontsize=9)
        show_image(column[0], middle)
        show_maps(column[1], maps[number, : task.target.classes].float().cpu().numpy())
        show_image(column[2], middle)
        circle(column[2], true[number], task.sampling, radius=0.2, filled=True)
        circle(column[2], found[number], task.sampling, radius=0.45)
    for axes, name in zip(grid[:, 0], ("image", "network output", "found (rings), true (dots)"), strict=True):
        axes.set_ylabel(name)
    legend(figure, task.classes)
    save(figure, path)
    return path


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {name: _to(inner, device) for name, inner in value.items()}
    return value.to(device)
