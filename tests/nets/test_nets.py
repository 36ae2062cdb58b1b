"""One contract for every architecture that a recipe names."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from conftest import ROOT
from hydra.utils import instantiate

from hrtem.inference.tiles import FARTHEST, measure_sight
from hrtem.nets import Folded, fuse
from hrtem.nets.context import LocalMean
from hrtem.nets.pointwise import Pointwise, with_convolutions, with_pointwise
from hrtem.nets.unet import ChannelNorm, convolution

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))

#: Trainable parameters for one image and one class. The 2018 network's convolutions, with their biases,
#: parametric rectifiers and normalisations, are counted by hand in `test_the_2018_network_layer_by_layer`.
PARAMETERS = {
    "dihedral_unet": 1_798_372,
    "folded_context": 1_577_540,
    "folded_segresnet": 1_544_516,
    "folded_unet": 1_798_372,
    "madsen2018": 5_191_393,
    "monai_attention_unet": 493_973,
    "monai_segresnet": 1_576_385,
    "monai_swin_unetr": 1_579_389,
    "msdnet": 10_514,
    "unet": 1_797_409,
}


def network(configuration, name, **words):
    return instantiate(configuration("target=gaussian", f"model={name}", **words).model, _convert_="all")


def test_every_model_states_its_size():
    assert set(PARAMETERS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_number_of_parameters(configuration, name):
    assert sum(p.numel() for p in network(configuration, name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("sample", "focal", "channels"), [("mos2", 3, 5), pytest.param("graphene", 1, 1, marks=pytest.mark.slow)]
)
def test_contract(configuration, name, sample, focal, channels):
    """Images to logits of the same shape, all finite, and every parameter takes part."""
    net = network(configuration, name, sample=sample, focal=focal)
    images = torch.randn(2, focal, 32, 64, generator=torch.Generator().manual_seed(0))
    logits = net(images)
    assert logits.shape == (2, channels, 32, 64)
    assert bool(torch.isfinite(logits).all())
    logits.square().mean().backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(torch.isfinite(parameter.grad).all()), parameter_name


@pytest.mark.parametrize("name", MODELS)
def test_an_image_does_not_depend_on_its_batch(configuration, name):
    net = network(configuration, name).eval()
    images = torch.randn(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net(images)[1:2], net(images[1:2]), atol=1e-4, rtol=1e-4)


def test_the_2018_network_layer_by_layer():
    """conv, three residual convs, conv at 32-64-128-256 and back, each with bias, PReLU slope, and two of the norm."""

    def conv(narrow, wide):
        return 9 * narrow * wide + wide + wide + 2 * wide

    def block(narrow, wide):
        return conv(narrow, wide) + 4 * conv(wide, wide)

    down = block(1, 32) + block(32, 64) + block(64, 128) + block(128, 256)
    enlarge = sum(16 * wide * wide // 2 + 3 * wide // 2 for wide in (256, 128, 64))
    up = block(128, 128) + block(64, 64) + block(32, 32)
    assert PARAMETERS["madsen2018"] == down + enlarge + up + 33


def test_upsampling_starts_as_bilinear_interpolation():
    from hrtem.nets.madsen import Upsampling

    ramp = torch.arange(8.0).expand(1, 2, 8, 8)
    enlarged = Upsampling(2, 2)[0](ramp)
    expected = torch.nn.functional.interpolate(ramp, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarged[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])


def test_folding_loses_nothing():
    net = Folded(2, 2, fold=2, network=lambda in_channels, out_channels: torch.nn.Identity())
    images = torch.randn(1, 2, 32, 32)
    torch.testing.assert_close(net(images), images)


TURNS = [
    lambda images: images.flip(-1),
    lambda images: images.flip(-2),
    lambda images: images.transpose(-2, -1),
    lambda images: images.rot90(1, (-2, -1)),
]


@pytest.mark.parametrize("turn", TURNS, ids=["mirror", "upside down", "transpose", "quarter turn"])
def test_the_dihedral_average_turns_with_the_image(configuration, turn):
    """To the rounding of double precision, for each generator of the group and an oblong image."""
    torch.manual_seed(0)
    images = torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    average = network(configuration, "dihedral_unet").double().eval()
    with torch.inference_mode():
        torch.testing.assert_close(average(turn(images)), turn(average(images)), atol=1e-12, rtol=1e-12)
        plain = average.network
        assert (plain(turn(images)) - turn(plain(images))).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("turn", "way"),
    [
        (TURNS[0], lambda x, y: (-x, y)),
        (TURNS[1], lambda x, y: (x, -y)),
        (TURNS[2], lambda x, y: (y, x)),
        # rot90 takes the last axis to the one before, backwards.
        (TURNS[3], lambda x, y: (y, -x)),
    ],
    ids=["mirror", "upside down", "transpose", "quarter turn"],
)
def test_a_vector_turns_with_the_image(turn, way):
    from hrtem.nets import Dihedral

    torch.manual_seed(0)
    average = Dihedral(torch.nn.Conv2d(1, 3, 5, padding=2).double(), vectors=2)
    images = torch.randn(2, 1, 32, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        turned, plain = average(turn(images)), average(images)
    torch.testing.assert_close(turned[:, :1], turn(plain[:, :1]), atol=1e-12, rtol=1e-12)
    x, y = way(turn(plain[:, 1]), turn(plain[:, 2]))
    torch.testing.assert_close(turned[:, 1], x, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(turned[:, 2], y, atol=1e-12, rtol=1e-12)


def test_the_dihedral_average_of_a_pointwise_network_is_that_network():
    from hrtem.nets import Dihedral

    images = torch.randn(1, 2, 32, 64)
    torch.testing.assert_close(Dihedral(torch.nn.Tanh())(images), images.tanh())


def test_the_norm_computes_in_float32_under_mixed_precision():
    norm, features = ChannelNorm(24), torch.randn(2, 24, 8, 8, generator=torch.Generator().manual_seed(0)) + 3.0
    with torch.autocast("cpu", torch.bfloat16):
        mixed = norm(features.bfloat16())
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed, norm(features.bfloat16().float()).bfloat16(), rtol=0.0, atol=0.0)
    assert norm.double()(features.double()).dtype == torch.float64


def test_gradients_of_a_convolution_are_not_copied():
    """A rectifier in place behind the norm's turned axes changes a view, which costs a tenth of a training step."""
    nodes, names = [convolution(8, 16)(torch.ones(2, 8, 16, 16)).grad_fn], set()
    while nodes:
        node = nodes.pop()
        names.add(node.name())
        nodes += [before for before, _ in node.next_functions if before is not None]
    assert {"ReluBackward0", "NativeLayerNormBackward0", "ConvolutionBackward0"} <= names
    assert "CopySlices" not in names


def trained(configuration, name, **words):
    """A network whose normalisations have statistics and weights of their own, as after a training."""
    net = network(configuration, name, **words).eval()
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.3, generator=generator)
            module.running_var.uniform_(0.3, 2.0, generator=generator)
            torch.nn.init.uniform_(module.weight, -1.0, 1.5, generator=generator)
            torch.nn.init.normal_(module.bias, 0.0, 0.3, generator=generator)
    return net


@pytest.mark.parametrize("name", MODELS)
def test_fused_networks_answer_the_same(configuration, name):
    net = trained(configuration, name, focal=3)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    images = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    given = images.clone()
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            answer, expected = fuse(net)(images).detach(), net(images).detach()
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(images, given)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_fusing_leaves_no_normalisation_and_no_rectifier_of_the_default_network(configuration):
    left = {type(module).__name__ for module in fuse(trained(configuration, "folded_segresnet")).modules()}
    assert "FusedConvolution" in left
    assert not left & {"BatchNorm2d", "ReLU", "Conv2d"}


def test_fused_networks_round_no_more_in_bfloat16(configuration):
    net = trained(configuration, "folded_segresnet")
    images = torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = net(images)
        with torch.autocast("cpu", torch.bfloat16):
            errors = [float((one(images).float() - exact).square().mean().sqrt()) for one in (net, fuse(net))]
    assert 0.0 < errors[1] < 1.3 * errors[0]


def test_a_fused_network_sees_as_far(configuration):
    net = trained(configuration, "folded_segresnet")
    assert measure_sight(fuse(net), 1)[0] == measure_sight(net, 1)[0] > 32


def test_sums_of_features_that_are_read_again_are_kept():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (torch.nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))

        def forward(self, images):
            features = self.first(images)
            return (self.second(features) + features) * features

    net, images = Twice().eval(), torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(fuse(net)(images), net(images))


def test_a_network_that_cannot_be_followed_stays_as_it_is():
    class Branching(torch.nn.Module):
        def forward(self, images):
            return images if images.mean() > 0 else -images

    net = Branching()
    assert fuse(net) is net


def test_a_convolution_of_one_pixel_is_a_product_of_matrices():
    """The same function, the same gradients and the same names of weights."""
    torch.manual_seed(0)
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(6, 4, 1), torch.nn.Conv2d(4, 5, 3), torch.nn.Conv2d(5, 2, 1, bias=False)
    )
    other = with_pointwise(deepcopy(plain))
    assert [type(one) for one in other] == [Pointwise, torch.nn.Conv2d, Pointwise]
    assert [type(one) for one in with_convolutions(deepcopy(other))] == [torch.nn.Conv2d] * 3
    assert other.state_dict().keys() == plain.state_dict().keys()
    features = torch.randn(3, 6, 8, 9).contiguous(memory_format=torch.channels_last)
    answers = [network(features) for network in (plain, other)]
    torch.testing.assert_close(*answers)
    for answer in answers:
        answer.square().sum().backward()
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-4)


def test_surroundings_add_nothing_before_a_training_and_a_mean_over_a_square_after_it(configuration):
    """So that it may start from the weights of the network without them."""
    features = torch.randn(1, 8, 20, 20, generator=torch.Generator().manual_seed(0))
    layer = LocalMean(8, reach=3)
    torch.testing.assert_close(layer(features), features, rtol=0, atol=0)
    first, last = layer.mix[0], layer.mix[2]
    with torch.no_grad():
        first.weight.copy_(torch.eye(8)[..., None, None])
        first.bias.fill_(10.0)  # nothing is rectified
        last.weight.copy_(torch.eye(8)[..., None, None])
        last.bias.fill_(-10.0)
    added = layer(features) - features
    torch.testing.assert_close(added[0, :, 10, 9], features[0, :, 7:14, 6:13].mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(added[0, :, 0, 19], features[0, :, :4, 16:].mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)


def test_a_network_with_surroundings_sees_no_farther_than_tiles_let_it(configuration):
    net = trained(configuration, "folded_context")
    plain = trained(configuration, "folded_segresnet")
    with torch.no_grad():
        net.network.surroundings.mix[2].weight.normal_(generator=torch.Generator().manual_seed(0))
    assert measure_sight(plain, 1)[0] < measure_sight(net, 1)[0] < FARTHEST
