"""RelocatableCheckpoint: a ModelCheckpoint whose folder may be moved or copied between fits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

log = logging.getLogger(__name__)


class RelocatableCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that looks for earlier checkpoints only in the folder in which a training is resumed.

    Lightning's own saves absolute paths: in a copied run directory it would use the original's best weights, and in a
    moved one it would forget the best score.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore score and path of the best checkpoint, if it is in this folder."""
        folder = Path(str(self.dirpath))

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else ""

        best = here(state_dict["best_model_path"])
        if best and not Path(best).is_file():
            if self.monitor is not None:
                log.warning("%s: is missing; the best of the epochs from now on is kept", best)
            return
        moved = {name: here(path) for name, path in state_dict.items() if name.endswith("_model_path")}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": scores, "dirpath": self.dirpath})
