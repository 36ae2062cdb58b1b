"""Fusion of the layers of a trained network into fewer passes over its features, for inference."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from operator import add, iadd
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hrtem.nets.dihedral import Dihedral
from hrtem.nets.pointwise import with_convolutions


class FusedConvolution(nn.Module):
    """A convolution, an optional sum with other features and an optional ReLU, in a single pass if oneDNN is available.

    Attributes:
        rectified: whether ReLU follows.
        in_place: whether the sum may overwrite the added features.

    Args:
        convolution: the convolution, with zero padding.
        centre: ``(C,)``, subtracted from each channel before the convolution; only for a 1 x 1 convolution of each
            channel by itself.
    """

    centre: Tensor | None

    def __init__(self, convolution: nn.Conv2d, centre: Tensor | None = None) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.register_buffer("centre", centre)
        self.stride, self.padding = convolution.stride, convolution.padding
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self.rectified = self.in_place = False

    def forward(self, features: Tensor, added: Tensor | None = None) -> Tensor:
        """Output features ``(B, C, Y, X)`` for ``features``; ``added`` are the features that the sum adds."""
        device = features.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        features, weight, bias = features.to(kind), self.weight.to(kind), self.bias
        if self.centre is not None and bias is not None:
            # With the rounded weights, so that the subtracted centre cancels exactly.
            bias = bias - self.centre * weight.flatten().to(bias.dtype)
        if device != "cpu" or not torch.backends.mkldnn.is_available() or torch.is_grad_enabled():
            bias = None if bias is None else bias.to(kind)
            answer = F.conv2d(features, weight, bias, self.stride, self.padding, self.dilation, self.groups)
            answer = answer if added is None else answer + added
            return answer.relu() if self.rectified else answer
        # The operators that torch.compile generates for these three steps; in bfloat16 an elementwise pass costs as
        # much as a convolution.
        form = (weight, bias, self.padding, self.stride, self.dilation, self.groups)
        last = "relu" if self.rectified else None
        if added is None:
            return torch.ops.mkldnn._convolution_pointwise(features, *form, last or "none", [], "")
        if self.in_place and added.dtype == kind:
            both = torch.ops.mkldnn._convolution_pointwise_.binary
            return both(added, features, *form, "add", 1.0, last, [], "")
        return torch.ops.mkldnn._convolution_pointwise.binary(features, added.to(kind), *form, "add", 1.0, last, [], "")


def fuse(network: nn.Module) -> nn.Module:
    """Fuse a network in evaluation mode into fewer passes; the original network is not changed.

    Batch normalisation with fixed statistics is folded into the preceding convolution, or becomes a depthwise
    convolution if there is none. ReLU and sums are computed by the preceding convolution. A network whose control flow
    depends on its input, which :mod:`torch.fx` cannot trace, is returned unchanged.

    Args:
        network: from ``(B, in_channels, Y, X)`` to ``(B, out_channels, Y, X)``.
    """
    if isinstance(network, Dihedral):
        return Dihedral(fuse(network.network), network.vectors)
    try:
        graph = fx.symbolic_trace(with_convolutions(deepcopy(network)).eval())
    except Exception:
        # Tracing passes proxies instead of tensors, so the network's own code may raise any exception.
        return network
    for step in (_convolutions, _normalisations, _sums, _rectifiers):
        for node in list(graph.graph.nodes):
            step(graph, node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _module(graph: fx.GraphModule, node: Any) -> nn.Module | None:
    called = isinstance(node, fx.Node) and node.op == "call_module"
    return graph.get_submodule(str(node.target)) if called else None


def _put(graph: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Let a node call another module; other nodes may still use the old module."""
    name = f"fused_{node.name}"
    graph.add_submodule(name, module)
    node.target = name


def _join(graph: fx.GraphModule, kept: fx.Node, gone: fx.Node) -> None:
    """Replace the node ``gone``, the only user of ``kept``, by ``kept``."""
    gone.replace_all_uses_with(kept)
    graph.graph.erase_node(gone)


def _convolutions(graph: fx.GraphModule, node: fx.Node) -> None:
    module = _module(graph, node)
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        _put(graph, node, FusedConvolution(module))


def _normalisations(graph: fx.GraphModule, node: fx.Node) -> None:
    norm = _module(graph, node)
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return
    before = node.args[0]
    convolution = _module(graph, before)
    given = (norm.running_var, norm.eps, norm.weight, norm.bias)
    if isinstance(convolution, FusedConvolution) and isinstance(before, fx.Node) and len(before.users) == 1:
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, *given
        )
        _join(graph, before, node)
        return
    channels, mean = norm.num_features, norm.running_mean
    own = nn.Conv2d(channels, channels, 1, groups=channels, bias=False, device=mean.device)
    nn.init.ones_(own.weight)
    own.weight, own.bias = fuse_conv_bn_weights(own.weight, None, torch.zeros_like(mean), *given)
    _put(graph, node, FusedConvolution(own, mean))


#: Functions by which the code of a network may add features.
SUMS: tuple[Callable[..., Any], ...] = (add, iadd, torch.add)


def _sums(graph: fx.GraphModule, node: fx.Node) -> None:
    if node.op != "call_function" or node.target not in SUMS or len(node.args) != 2 or node.kwargs:
        return
    for one, other in (node.args, node.args[::-1]):
        convolution = _module(graph, one)
        if (
            not isinstance(convolution, FusedConvolution)
            or not isinstance(one, fx.Node)
            or not isinstance(other, fx.Node)
        ):
            continue
        # The convolution is moved to the place of the sum, where the other features have been computed.
        if len(one.users) == 1 and len(one.args) == 1 and one is not other:
            # The output of a convolution shares no memory with other features, and its last user may overwrite it.
            order = {each: number for number, each in enumerate(graph.graph.nodes)}
            last = max(other.users, key=order.__getitem__)
            convolution.in_place = isinstance(_module(graph, other), FusedConvolution) and last is node
            node.append(one)
            one.args = (*one.args, other)
            _join(graph, one, node)
            return


def _rectifiers(graph: fx.GraphModule, node: fx.Node) -> None:
    before = node.args[0] if node.args else None
    convolution = _module(graph, before)
    if not isinstance(convolution, FusedConvolution) or not isinstance(before, fx.Node) or len(before.users) != 1:
        return
    if isinstance(_module(graph, node), nn.ReLU) or (
        node.op == "call_function" and node.target in (F.relu, torch.relu)
    ):
        convolution.rectified = True
        _join(graph, before, node)
