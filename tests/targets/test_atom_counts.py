"""Ways to say how many atoms a column has."""

from __future__ import annotations

import pytest
import torch

from hrtem.targets.atom_counts import Classes, Normal, Ordinal

HEADS = [Classes(8), Ordinal(8), Normal(8)]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_any_answer_is_a_distribution(head):
    shares = head.probabilities(5.0 * torch.randn(2, head.channels, 3, 4, generator=torch.Generator().manual_seed(0)))
    assert shares.shape == (2, 8, 3, 4)
    assert float(shares.min()) >= -1e-6
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2, 3, 4))


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_the_least_loss_lies_at_the_distribution(head):
    """A column of 3 or 4 atoms, 7 to 3."""
    atoms = torch.tensor([3.0] * 7 + [4.0] * 3)[:, None, None]
    logits = torch.zeros(1, head.channels, 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        head.loss(logits.expand(10, -1, -1, -1), atoms).mean().backward()
        optimizer.step()
    shares = head.probabilities(logits.detach())[0, :, 0, 0]
    assert int(shares.argmax()) == 2
    assert shares[2:4].tolist() == pytest.approx([0.7, 0.3], abs=0.1)
    assert float(shares[:2].sum() + shares[4:].sum()) < 0.06


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_more_atoms_than_are_told_apart_count_as_the_most(head):
    logits = torch.randn(1, head.channels, 1, 1, generator=torch.Generator().manual_seed(0))
    most, more = (head.loss(logits, torch.full((1, 1, 1), number)) for number in (8.0, 11.0))
    torch.testing.assert_close(most, more)
