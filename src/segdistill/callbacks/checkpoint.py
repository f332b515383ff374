"""RelocatableCheckpoint: ModelCheckpoint in a folder that may have been moved or copied since."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint

log = logging.getLogger(__name__)


class RelocatableCheckpoint(ModelCheckpoint):
    """Looks for what an earlier part of the training kept in the folder that it is resumed in, and nowhere else.

    Lightning's own saves absolute paths: in a copied run directory it would take the original's best weights, in a
    moved one forget the best score.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore score and path of the best checkpoint, if it is here."""
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
