"""A trained network with fewer passes over its features, for use."""

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
    """A convolution, then a sum with other features, then ReLU, in one pass over the features where oneDNN can.

    Attributes:
        rectified: whether ReLU follows.
        in_place: whether a sum may be left in the memory of what is added.

    Args:
        convolution: what it computes first; its padding is with zeros.
        centre: what each channel is less by before a convolution of one pixel of each channel by itself, ``(C,)``.
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
        """Features ``(B, C, Y, X)`` of ``features``; ``added`` are those that the sum adds."""
        device = features.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        features, weight, bias = features.to(kind), self.weight.to(kind), self.bias
        if self.centre is not None and bias is not None:
            # Of the weights as they are rounded, so that what is subtracted is not left over.
            bias = bias - self.centre * weight.flatten().to(bias.dtype)
        if device != "cpu" or not torch.backends.mkldnn.is_available() or torch.is_grad_enabled():
            bias = None if bias is None else bias.to(kind)
            answer = F.conv2d(features, weight, bias, self.stride, self.padding, self.dilation, self.groups)
            answer = answer if added is None else answer + added
            return answer.relu() if self.rectified else answer
        # What the compiler of torch makes of these three; elementwise passes in bfloat16 cost as much as a convolution.
        form = (weight, bias, self.padding, self.stride, self.dilation, self.groups)
        last = "relu" if self.rectified else None
        if added is None:
            return torch.ops.mkldnn._convolution_pointwise(features, *form, last or "none", [], "")
        if self.in_place and added.dtype == kind:
            both = torch.ops.mkldnn._convolution_pointwise_.binary
            return both(added, features, *form, "add", 1.0, last, [], "")
        return torch.ops.mkldnn._convolution_pointwise.binary(features, added.to(kind), *form, "add", 1.0, last, [], "")


def fuse(network: nn.Module) -> nn.Module:
    """The same function as a network in evaluation mode, computed in fewer passes; the network itself is left alone.

    Batch normalisation with fixed statistics goes into the convolution before it, or where there is none becomes a
    convolution of each channel by itself; ReLU and sums are done by the convolution before them. A network whose
    course depends on its input, which :mod:`torch.fx` cannot follow, comes back as it is.

    Args:
        network: from ``(B, in_channels, Y, X)`` to ``(B, out_channels, Y, X)``.
    """
    if isinstance(network, Dihedral):
        return Dihedral(fuse(network.network), network.vectors)
    try:
        graph = fx.symbolic_trace(with_convolutions(deepcopy(network)).eval())
    except Exception:
        # It raises whatever the network's own code raises when its tensors are no tensors.
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
    """Have a node call another module; the old one may be that of other nodes too."""
    name = f"fused_{node.name}"
    graph.add_submodule(name, module)
    node.target = name


def _join(graph: fx.GraphModule, kept: fx.Node, gone: fx.Node) -> None:
    """Let ``kept`` answer in the place of ``gone``, which was its only reader."""
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


#: Sums, as the code of a network may say them.
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
        # The other features must be known when the convolution runs, which is moved to where the sum was.
        if len(one.users) == 1 and len(one.args) == 1 and one is not other:
            # What a convolution made is no other's memory, and its last reader may change it.
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
