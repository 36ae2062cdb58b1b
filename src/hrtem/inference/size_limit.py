"""Limit on the size of a network while it is built from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hrtem.errors import InputError

#: Values that may be computed for each value in the file, and in addition; initialisation and a test take about twenty.
SPARE = (100, 2**27)
#: Operations that may be computed for each tensor in the file, and in addition.
OPERATIONS = (100, 10_000)


class SizeLimit(TorchDispatchMode):
    """Stop the construction of a network that is far larger than its weights in the file.

    Settings of a few bytes can describe a network without end. Memory that torch has reserved but not yet written costs
    nothing, so that it suffices to look at each tensor after it is made.

    Args:
        state: weights of the network in the file.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = SPARE[0] * sum(value.numel() for value in state.values()) + SPARE[1]
        self.operations = OPERATIONS[0] * len(state) + OPERATIONS[1]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and torch would import its compiler, a second, to say so."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute an operation and count it."""
        answer = func(*args, **(kwargs or {}))
        self.values -= sum(one.numel() for one in tree_leaves(answer) if isinstance(one, Tensor))
        self.operations -= 1
        if self.values < 0 or self.operations < 0:
            raise InputError("the settings describe a network that is far larger than the weights")
        return answer
