"""What a run will do, in one line, which is printed before torch is imported."""

from __future__ import annotations

from segdistill.config.callbacks import built_callbacks
from segdistill.config.model import FitConfig
from segdistill.config.schema import Config


def plan(config: Config) -> str:
    """Describe the steps of a run.

    Example:
        "takes the packaged teacher; trains the student: 9 epochs of 4 x 176 x 288, with kl; then onnx_export, quantize"
    """
    steps = []
    if config.needs_teacher:
        budget = _budget(config.teacher.fit, config)
        steps.append(
            {
                "packaged": "takes the packaged teacher",
                "pretrained": "takes a pretrained teacher",
                "checkpoint": f"takes the teacher of {config.teacher.checkpoint}",
                "train": f"takes the teacher of {config.cache_dir}, or trains it: {budget}",
            }[config.teacher_source]
        )
    trained = config.teacher if config.stage == "teacher" else config.student
    taught = f", with {', '.join(_taught_by(config))}" if config.stage == "student" and _taught_by(config) else ""
    steps.append(f"trains the {config.stage}: {_budget(trained.fit, config)}{taught}")
    callbacks = built_callbacks(config.callbacks)
    steps.append(f"then {', '.join(callbacks)}" if callbacks else "exports nothing")
    return "; ".join(steps)


def _taught_by(config: Config) -> list[str]:
    losses = list(config.distill.losses) if config.distill.alpha > 0 else []
    return losses + ["the teacher's labels"] * config.distill.pseudo_labels


def _budget(fit: FitConfig, config: Config) -> str:
    size = fit.crop or config.data.preprocessing.size
    return f"{fit.max_epochs} epochs of {fit.batch_size} x {size[0]} x {size[1]}"
