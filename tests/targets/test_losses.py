"""Losses: their optimum and their slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import monai.losses
import pytest
import torch
import yaml
from conftest import ROOT
from hydra.utils import instantiate
from torch import Tensor

from hrtem.errors import InputError
from hrtem.targets.losses import DiceBCELoss, FocalLoss, OffsetLoss, SigmoidMSELoss

RECIPES = sorted(path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml"))
#: Those on single maps, and which of them are proper.
PROPER = {"bce": True, "mse": True, "focal": False, "dice_bce": False}


def made(name: str) -> Any:
    settings = yaml.safe_load((ROOT / "conf" / "loss" / f"{name}.yaml").read_text())
    if "count" in settings:
        settings["count"] = {"_target_": "hrtem.targets.atom_counts.Ordinal", "largest": 3}
    return instantiate(settings)


def shapes(name: str, channels: int, side: int = 8) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of logits and of a target with as many channels, but for a loss that counts atoms."""
    if name == "counted_offsets":
        return (2, 5, side, side), (2, 4, side, side)
    return (2, channels, side, side), (2, channels, side, side)


def best(loss: Callable[[Tensor, Tensor], Tensor], *targets: float) -> float:
    """The probability that loses least where one pixel's target is any of ``targets`` with equal chance."""
    chances = torch.linspace(0.002, 0.998, 499)
    maps = torch.tensor(targets).reshape(-1, 1, 1, 1)
    losses = [float(loss(logit.expand(maps.shape), maps)) for logit in chances.logit()]
    return float(chances[int(torch.tensor(losses).argmin())])


def test_every_recipe_is_tested() -> None:
    assert set(RECIPES) == {*PROPER, "softmax", "offsets", "counted_offsets"}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("channels", [3, 4])
def test_every_logit_gets_a_finite_gradient(name: str, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    of_logits, of_target = shapes(name, channels)
    logits = torch.randn(of_logits, generator=generator, requires_grad=True)
    target = torch.rand(of_target, generator=generator)
    loss = made(name)(logits, target)
    loss.backward()
    assert loss.ndim == 0
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad != 0).all()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("far", [60.0, -60.0])
def test_great_mistakes_and_empty_targets_stay_finite(name: str, far: float) -> None:
    of_logits, of_target = shapes(name, 3)
    logits = torch.full(of_logits, far, requires_grad=True)
    loss = made(name)(logits, torch.zeros(of_target))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", PROPER)
@pytest.mark.parametrize("target", [0.1, 0.3, 0.5, 0.8])
def test_a_certain_target_is_the_best_answer(name: str, target: float) -> None:
    """So that a Gaussian stays a Gaussian."""
    assert best(made(name), target) == pytest.approx(target, abs=0.003)


@pytest.mark.parametrize("name", PROPER)
def test_the_best_answer_to_uncertain_targets_is_their_mean_if_the_loss_is_proper(name: str) -> None:
    for targets in ((1.0, 1.0, 0.6, 0.0), (1.0, 0.0, 0.0, 0.0)):
        mean = sum(targets) / len(targets)
        assert (abs(best(made(name), *targets) - mean) < 0.003) == PROPER[name]


def test_how_far_from_probabilities_the_others_are() -> None:
    assert best(FocalLoss(), 1.0, 0.0, 0.0, 0.0) == pytest.approx(0.40, abs=0.01)
    assert best(FocalLoss(), *9 * [1.0], 0.0) == pytest.approx(0.69, abs=0.01)
    assert best(DiceBCELoss(), 1.0, 0.0, 0.0, 0.0) == pytest.approx(0.33, abs=0.01)


def test_why_monai_is_not_taken_as_it_is() -> None:
    """Remove our own where this fails."""
    assert best(monai.losses.FocalLoss(), 0.7) > 0.99
    assert best(monai.losses.DiceCELoss(sigmoid=True), 0.3) > 0.38
    assert best(monai.losses.TverskyLoss(sigmoid=True), 0.3) > 0.99


def test_focal_loss_is_the_published_one_where_targets_are_certain() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    target = (torch.rand(2, 3, 8, 8, generator=generator) > 0.5).float()
    torch.testing.assert_close(FocalLoss(2.0)(logits, target), monai.losses.FocalLoss(gamma=2.0)(logits, target))
    torch.testing.assert_close(FocalLoss(0.0)(logits, target), torch.nn.BCEWithLogitsLoss()(logits, target))


def test_dice_is_added_to_cross_entropy() -> None:
    logits, target = torch.full((1, 2, 4, 4), 40.0), torch.ones(1, 2, 4, 4)
    assert float(DiceBCELoss()(logits, target)) == pytest.approx(0.0, abs=1e-5)
    # Nothing of what is there: a Dice loss of 1, whatever its weight, and 40 of cross entropy.
    assert float(DiceBCELoss(0.5)(-logits, target)) == pytest.approx(40.5, rel=1e-4)


def test_sigmoid_mse_is_the_squared_error_of_the_probability() -> None:
    logits, target = torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[1.0, 0.25]]]])
    expected = ((0.5 - 1.0) ** 2 + (torch.tensor(2.0).sigmoid() - 0.25) ** 2) / 2
    assert float(SigmoidMSELoss()(logits, target)) == pytest.approx(float(expected))


def test_softmax_is_least_at_the_expected_target() -> None:
    """Gaussians of two classes and the background, uncertain: the best answer is their mean, channel by channel."""
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    logits = targets.mean(dim=0).log()[None, :, None, None].expand(3, 3, 1, 1).clone().requires_grad_()
    made("softmax")(logits, targets[:, :, None, None]).backward()
    torch.testing.assert_close(logits.grad.sum(dim=0), torch.zeros(3, 1, 1), atol=1e-7, rtol=0)


def test_classes_count_within_discs_only() -> None:
    """The cross entropy of p_c / Σ p_j there; one class has none, and the optimum is that of the discs."""
    target = torch.zeros(1, 5, 4, 6)
    target[0, 1, 1, 2] = target[0, 0, 2, 3] = 1.0
    logits = torch.randn(1, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    with_classes, without = OffsetLoss(class_weight=2.0)(logits, target), OffsetLoss(class_weight=0.0)(logits, target)
    chance = logits[0, :3].sigmoid()
    shares = chance / chance.sum(dim=0)
    expected = -2.0 * (shares[1, 1, 2].log() + shares[0, 2, 3].log()) / 2.0
    torch.testing.assert_close(with_classes - without, expected)
    one = [OffsetLoss(class_weight=weight)(logits[:, 2:], target[:, 2:]) for weight in (0.0, 2.0)]
    assert one[0] == one[1]
    # Discs of class 0 in seven images of ten and of class 1 in the others, as they look the same.
    mixed = torch.zeros(10, 4, 1, 1)
    mixed[:7, 0] = mixed[7:, 1] = 1.0
    best = torch.tensor([0.7, 0.3]).logit().reshape(1, 2, 1, 1).repeat(10, 1, 1, 1)
    said = torch.cat([best, torch.zeros(10, 2, 1, 1)], dim=1).requires_grad_()
    OffsetLoss(class_weight=3.0)(said, mixed).backward()
    assert said.grad is not None
    torch.testing.assert_close(said.grad[:, :2].sum(dim=0), torch.zeros(2, 1, 1), atol=1e-6, rtol=0.0)


def test_offsets_count_within_discs_only() -> None:
    target = torch.zeros(1, 3, 4, 4)
    target[0, 0, 1, 2] = 1.0
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 0] = torch.where(target[:, 0] > 0, 40.0, -40.0)
    loss = OffsetLoss(offset_weight=2.0, delta=0.2, class_weight=0.0)
    assert float(loss(logits, target)) == pytest.approx(0.0, abs=1e-6)
    elsewhere = logits.clone()
    elsewhere[0, 1:, 0, 0] = 5.0
    assert float(loss(elsewhere, target)) == pytest.approx(0.0, abs=1e-6)
    # Far offsets count as their length less half of delta.
    logits[0, 1, 1, 2] = 1.0
    assert float(loss(logits, target)) == pytest.approx(2.0 * (1.0 - 0.1), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: FocalLoss(-1.0), "gamma"),
        (lambda: DiceBCELoss(-1.0), "dice_weight"),
        (lambda: OffsetLoss(offset_weight=-1.0), "offset_weight"),
        (lambda: OffsetLoss(delta=0.0), "delta"),
        (lambda: OffsetLoss(class_weight=-1.0), "class_weight"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], Any], name: str) -> None:
    with pytest.raises(InputError, match=rf"loss\.{name}"):
        make()
