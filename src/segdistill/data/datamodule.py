"""SegmentationDataModule: batches of a checked dataset for Lightning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import tv_tensors
from torchvision.transforms import v2

from segdistill.config.model import FitConfig
from segdistill.data.geometry import GeometryRecord, apply_geometry
from segdistill.data.image_cache import ImageCache, Reader
from segdistill.data.sampling import SeededDataset, SeededSampler
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.split_reader import SplitReader
from segdistill.data.transforms import to_tensors, train_pipeline
from segdistill.data.workers import default_workers, quiet_when_abandoned
from segdistill.utils.errors import UserError
from segdistill.utils.interpolate import whole_cells
from segdistill.utils.preprocessing import Preprocessing

Batch = dict[str, Tensor]
"""`image` float32 [B, 3, H, W] in [0, 1], `mask` int64 [B, H, W] with void 255, `index` int64 [B] of each image in its
split and, if the teacher's logits are cached, `teacher_logits` float16 [B, C, h, w]."""


class LogitStore(Protocol):
    """Logits of whole images by image index: a tensor [n, C, h, w], or files."""

    def __getitem__(self, index: int, /) -> Tensor:
        """Return the logits of one image, [C, h, w]."""


class SegmentationDataset(Dataset[Batch]):
    """One split of a dataset, transformed.

    Args:
        read: Reader of the split.
        transform: Takes and returns (tv_tensors.Image uint8 [3, H, W], tv_tensors.Mask uint8 [H, W], GeometryRecord).
    """

    def __init__(self, read: Reader, transform: Callable[..., Any]) -> None:
        self.read, self.transform = read, transform

    def __len__(self) -> int:
        return len(self.read)

    def __getitem__(self, index: int) -> Batch:
        image, mask, _ = self.with_geometry(index)
        return {"image": image, "mask": mask, "index": torch.tensor(index)}

    def with_geometry(self, index: int) -> tuple[Tensor, Tensor, GeometryRecord]:
        """Return image and mask, and the record of how they were transformed."""
        pixels, ids = self.read(index)
        image, mask = tv_tensors.Image(torch.tensor(pixels).permute(2, 0, 1)), tv_tensors.Mask(torch.tensor(ids))
        image, mask, view = self.transform(image, mask, GeometryRecord.whole(*ids.shape))
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor), view


class CachedLogitsDataset(Dataset[Batch]):
    """A dataset with cached teacher logits, which are transformed together with their image.

    Args:
        dataset: Images and masks; their transform must change geometry only by operations that `GeometryRecord`
            supports.
        maps: Logits of the same images, prepared, padded to `whole_cells`.
        preprocessing: How the images were prepared from which the logits were computed.
        multiple: Pixel multiple of the padding; the logits of a batch cover its padded images.
    """

    def __init__(
        self, dataset: SegmentationDataset, maps: LogitStore, preprocessing: Preprocessing, multiple: int
    ) -> None:
        self.dataset, self.maps, self.multiple = dataset, maps, multiple
        self.covered, resize = whole_cells(preprocessing.size, multiple), preprocessing.resize
        self.down, self.across = (whole / side for whole, side in zip(self.covered, resize, strict=True))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch:
        image, mask, geometry = self.dataset.with_geometry(index)
        maps = self.maps[index]
        shown = whole_cells(image.shape[-2:], self.multiple)
        cells = zip(maps.shape[-2:], self.covered, shown, strict=True)
        size = [max(1, round(count * side / whole)) for count, whole, side in cells]
        logits = apply_geometry(maps, geometry.of_larger(self.across, self.down).extended(*shown), size)
        return {"image": image, "mask": mask, "index": torch.tensor(index), "teacher_logits": logits}


class SegmentationDataModule(pl.LightningDataModule):
    """Batches of a checked dataset; `Batch` describes their contents.

    Args:
        source: Checked dataset.
        fit: Batch size, scale and crop of the training split.
        augment: Steps on training images and masks after scale and crop; see `segdistill.data.augment`.
        preprocessing: What is done to every image before a network sees it.
        eval_batch_size: Number of images per batch in validation and test.
        num_workers: Number of loader processes; None chooses it from the available hardware.
        seed: Seed of the training order and the augmentation.
        images: Where decoded images are kept.
        draft: Whether JPEG files are decoded at a reduced size where that is enough for the largest scale.

    Attributes:
        teacher_logits: Logits of the whole training images at the input size, padded to `cell_multiple`; None if they
            are not cached.
        cell_multiple: Pixel multiple at which an image side is a whole number of cells for teacher and student.
        first_epoch: First epoch after a start or a resume.
    """

    teacher_logits: LogitStore | None = None
    cell_multiple: int = 1
    first_epoch: int = 0

    def __init__(
        self,
        source: DatasetIndex,
        fit: FitConfig,
        augment: Sequence[v2.Transform] = (),
        *,
        preprocessing: Preprocessing,
        eval_batch_size: int = 8,
        num_workers: int | None = None,
        seed: int = 0,
        images: ImageCache = ImageCache(),  # noqa: B008 # frozen
        draft: bool = False,
    ) -> None:
        super().__init__()
        self.source, self.fit, self.seed, self.images, self.draft = source, fit, seed, images, draft
        self.preprocessing, self.augment, self.eval_batch_size = preprocessing, tuple(augment), eval_batch_size
        self.num_workers = default_workers() if num_workers is None else num_workers

    @property
    def input_size(self) -> tuple[int, int]:
        """The [H, W] of whole images as networks see them."""
        return self.preprocessing.size

    def state_dict(self) -> dict[str, Any]:
        """Return the number of finished epochs, which a resumed fit needs before Lightning restores its loops."""
        progress: Any = None if self.trainer is None else self.trainer.fit_loop.epoch_progress.current
        return {"first_epoch": 0 if progress is None else progress.processed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the epoch after the saved ones."""
        self.first_epoch = state_dict["first_epoch"]

    # No setup(stage): datasets only refer to the checked source, so every loader can be had without a trainer.
    def train_dataloader(self) -> DataLoader[Batch]:
        """Load shuffled, augmented training images; a partial last batch is dropped unless it is the only one."""
        fit = self.fit
        crops = self._augmented(fit.crop or self.input_size, fit.scale, fit.class_crop)
        whole = self._augmented(self.input_size, (1.0, 1.0), class_crop=0.0) if fit.full_frame_epochs else crops
        dataset = SeededDataset(crops, whole, fit.max_epochs - fit.full_frame_epochs)
        rank, processes = self._processes()
        share, labelled = fit.labelled_share, [sample.mask is not None for sample in self.source.splits["train"]]
        mix = None if share is None or all(labelled) else (labelled, share)
        first = self.first_epoch
        sampler = SeededSampler(dataset, self.seed, rank=rank, processes=processes, first_epoch=first, labelled=mix)
        whole_batches = len(dataset) // processes >= fit.batch_size
        return self._loader(dataset, fit.batch_size, sampler=sampler, drop_last=whole_batches)

    def plain_train_dataloader(self, indices: Sequence[int]) -> DataLoader[Batch]:
        """Load some training images at the input size, in order, without augmentation."""
        return self._loader(Subset(self._plain("train"), indices), self.eval_batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Load every validation image at the input size."""
        return self._eval_loader("val")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Load every image of the split that results are reported on."""
        return self.test_dataloader()

    def test_dataloader(self) -> DataLoader[Batch]:
        """Load every image of the split that results are reported on."""
        return self._eval_loader(self.source.eval_split)

    def raw_sample(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return an image, uint8 [H, W, 3], and its class ids, uint8 [H, W], as networks see them."""
        return self._as_seen(split)(index)

    def eval_image(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return an image and its class ids of the split that results are reported on."""
        return self.raw_sample(self.source.eval_split, index)

    def _augmented(self, crop: Sequence[int], scale: Sequence[float], class_crop: float) -> Dataset[Batch]:
        """Build the training split with its augmentation, and with the teacher's logits where they are cached."""
        pipeline = train_pipeline(self.preprocessing, crop, scale, self.augment, class_crop)
        images, logits = SegmentationDataset(self._readers["train"], pipeline), self.teacher_logits
        return images if logits is None else CachedLogitsDataset(images, logits, self.preprocessing, self.cell_multiple)

    def _eval_loader(self, split: str) -> DataLoader[Batch]:
        """Load every image once, divided among the processes; Lightning's own sampler would repeat some."""
        dataset, (rank, processes) = self._plain(split), self._processes()
        if processes == 1:
            return self._loader(dataset, self.eval_batch_size)
        if len(dataset) < processes:
            raise UserError(f"{split}: {len(dataset)} images are too few for {processes} processes")
        sampler = UnrepeatedDistributedSampler(dataset, num_replicas=processes, rank=rank, shuffle=False)
        return self._loader(dataset, self.eval_batch_size, sampler=sampler)

    def _processes(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes that share the data."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _plain(self, split: str) -> SegmentationDataset:
        return SegmentationDataset(self._as_seen(split), to_tensors())

    @cached_property
    def _readers(self) -> dict[str, Reader]:
        """Readers of training images as they are, and of the other splits as networks see them, with their cache."""
        enlarged, (height, width) = max(1.0, self.fit.scale[1]), self.preprocessing.resize
        largest = math.ceil(height * enlarged), math.ceil(width * enlarged)
        readers = {"train": SplitReader(self.source, "train", at_least=largest if self.draft else None)}
        others = {split: self._prepared(split) for split in self.source.splits if split != "train"}
        return self.images.attach(readers | others)

    def _as_seen(self, split: str) -> Reader:
        return self._prepared(split) if split == "train" else self._readers[split]

    def _prepared(self, split: str) -> SplitReader:
        at_least = self.preprocessing.resize if self.draft else None
        return SplitReader(self.source, split, self.preprocessing, at_least)

    def _loader(self, dataset: Dataset[Batch], batch_size: int, **options: Any) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            **options,
            num_workers=self.num_workers,
            generator=torch.Generator().manual_seed(self.seed),  # otherwise iterations use the global generator
            persistent_workers=self.num_workers > 0,
            worker_init_fn=quiet_when_abandoned,
            pin_memory=torch.cuda.is_available(),
        )
