"""Initialise a student from its trained teacher.

Teacher and student of one family share the backbone and the layout of the head. What they have in common is copied;
if the student's head has no BatchNorm, the teacher's is merged into weight and bias; if the student's head works at
another stride, the kernel is resampled. The loss does not have to teach again what can be copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from segdistill.models.class_remap import ClassRemap
from segdistill.models.deeplab import DeepLabV3, DeepLabV3Plus
from segdistill.models.heads import SubpixelClassifier
from segdistill.models.output import evaluated
from segdistill.utils.errors import UserError

COARSER = torch.tensor([[0.25, 0.0, 0.0], [0.75, 1.0, 0.75], [0.0, 0.0, 0.25]])
"""Taps of a 3 x 3 kernel on a grid four times as fine -> taps on this grid, with bilinear features in between."""


@dataclass
class Inheritance:
    """Tensors that a student has inherited.

    Attributes:
        copied: Names of the student's tensors that were copied from the teacher.
        adapted: Names of the student's tensors that were derived from the teacher's.
        own: Names of the student's tensors that are unchanged.
    """

    copied: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = len(self.copied) + len(self.adapted) + len(self.own)
        rest = f"; its own stay {', '.join(self.own[:4])}{' ...' if len(self.own) > 4 else ''}" if self.own else ""
        return f"{len(self.copied)} of {total} tensors copied from the teacher, {len(self.adapted)} adapted{rest}"


@torch.no_grad()
def inherit(student: nn.Module, teacher: nn.Module, images: Tensor) -> Inheritance:
    """Copy everything that fits from a teacher to a student.

    Tensors of the same name and shape are copied; a backbone may be a part of the teacher's. A `DeepLabV3` also takes
    over the head of a `DeepLabV3Plus`: its pyramid, the context half of its refining convolution (whose statistics are
    measured anew) and its classifier, unless it is narrower or separable; and the stride-4 features of its decoder if
    the student has a detail branch of that width.

    Args:
        student: Network that is changed in place.
        teacher: Network that is left unchanged.
        images: Training images float32 [B, 3, H, W] in [0, 1] on which the statistics are measured.

    Raises:
        UserError: If nothing fits, or the student has no biases to hold what the teacher's BatchNorms add.
    """
    if isinstance(teacher, ClassRemap):
        teacher = teacher.network
    heads = (student, teacher) if isinstance(student, DeepLabV3) and isinstance(teacher, DeepLabV3Plus) else None
    if not _have_one_architecture(student, teacher):
        names = f"{type(student).__name__} and {type(teacher).__name__}"
        cure = "give both the same backbone, or student.init=pretrained, the student's own weights"
        raise UserError(f"student.init: {names} share no part; {cure}")
    result, given = Inheritance(), teacher.state_dict()
    for name, own in student.state_dict().items():
        if heads is not None and name.startswith("head."):
            continue
        if name in given and given[name].shape == own.shape:
            own.copy_(given[name])
            result.copied.append(name)
        else:
            result.own.append(name)
    if heads is not None:
        left = _inherit_head(*heads, images)
        result.own += left
        result.adapted += [name for name in student.state_dict() if name.startswith("head.") and name not in left]
    return result


def _have_one_architecture(student: nn.Module, teacher: nn.Module) -> bool:
    """Check whether equal names mean equal parts: in the student's backbone, or in networks without one, everywhere."""
    ours, theirs = (getattr(network, "backbone", None) for network in (student, teacher))
    if isinstance(ours, nn.Module) and isinstance(theirs, nn.Module):
        return _shapes(ours).items() <= _shapes(theirs).items()
    return _shapes(student).keys() == _shapes(teacher).keys()


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def _inherit_head(student: DeepLabV3, teacher: DeepLabV3Plus, images: Tensor) -> list[str]:
    """Take over the head, and return the names of the tensors that stay the student's own."""
    ours, theirs = student.head, teacher.head
    own: list[str] = []
    pairs = [
        (ours.get_submodule(f"aspp.{name}"), theirs.get_submodule(f"aspp.{name}"))
        for name in ("point", "pooled", "project.0", *(f"atrous.{index}" for index in range(3)))
    ]
    if all(_have_one_kernel(*pair) for pair in pairs):
        for unit, source in pairs:
            _inherit_unit(unit, source)
        _inherit_refine(student, theirs.get_submodule("refine"), images)
        if not _inherit_classifier(ours.get_submodule("classifier"), theirs.get_submodule("classifier")):
            own = ["classifier"]
    else:
        own = ["aspp", "refine", "classifier"]
    if ours.detail is not None:
        own += ["detail.refine", "detail.classifier"]
        low_level, decoders = ours.detail.low_level, theirs.get_submodule("low_level")
        if _have_one_kernel(low_level, decoders):
            _inherit_unit(low_level, decoders)
        else:
            own.append("detail.low_level")
    return [f"head.{name}" for name in ours.state_dict() if name.startswith(tuple(own))]


def _have_one_kernel(unit: nn.Module, source: nn.Module) -> bool:
    return unit.get_parameter("0.weight").shape == source.get_parameter("0.weight").shape


def _inherit_classifier(classifier: nn.Module, source: nn.Module) -> bool:
    """Copy the classifier to each of its subpixels alike; return whether the classes are the same."""
    copies = classifier.factor**2 if isinstance(classifier, SubpixelClassifier) else 1
    given = {name: value.repeat_interleave(copies, dim=0) for name, value in source.state_dict().items()}
    if given["weight"].shape != classifier.get_parameter("weight").shape:
        return False
    classifier.load_state_dict(given)
    return True


def _inherit_unit(unit: nn.Module, source: nn.Module) -> None:
    """Copy convolution and BatchNorm, or merge both if the unit has only a convolution."""
    if isinstance(unit.get_submodule("1"), nn.BatchNorm2d):
        unit.load_state_dict(source.state_dict())
        return
    norm = source.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    _set_merged(unit, source.get_parameter("0.weight"), norm, norm.running_mean, norm.running_var)


def _inherit_refine(student: DeepLabV3, source: nn.Module, images: Tensor) -> None:
    unit, norm = student.head.get_submodule("refine"), source.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    convolution = unit.get_submodule("0")
    context = source.get_parameter("0.weight")[:, : convolution.get_parameter("weight").shape[1]]
    coarser = COARSER.to(context)
    kernel = torch.einsum("ia,jb,ocab->ocij", coarser, coarser, context)
    convolution.get_parameter("weight").copy_(kernel)
    if convolution.bias is not None:
        convolution.get_parameter("bias").zero_()
    mean, var = _statistics(student, convolution, images)
    own = unit.get_submodule("1")
    if isinstance(own, nn.BatchNorm2d):
        own.load_state_dict(norm.state_dict() | {"running_mean": mean, "running_var": var})
    else:
        _set_merged(unit, kernel, norm, mean, var)


def _statistics(student: DeepLabV3, convolution: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the mean and variance of each output channel of a convolution on some images."""
    outputs: list[Tensor] = []
    hook = convolution.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
    with evaluated(student):
        for image in images:
            student.lowres_logits(image[None])
    hook.remove()
    channels = torch.cat([output.movedim(1, 0).flatten(1) for output in outputs], dim=1)
    return channels.mean(dim=1), channels.var(dim=1)


def _set_merged(unit: nn.Module, kernel: Tensor, norm: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    convolution = unit.get_submodule("0")
    if convolution.bias is None:
        raise UserError(
            "student.init: the student's head has neither BatchNorm nor biases, and no place for what the "
            "teacher's BatchNorms add; set student.network.head_bias=true"
        )
    weight, bias = fuse_conv_bn_weights(kernel, None, mean, var, norm.eps, norm.weight, norm.bias)
    convolution.get_parameter("weight").copy_(weight)
    convolution.get_parameter("bias").copy_(bias)
