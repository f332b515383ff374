# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quickstart
#
# One run at smoke size: a teacher is trained, a student distilled, both are exported, quantised, timed and scored. Then
# we look at what it left. Start Jupyter in the repository's folder or in `notebooks/`.

# %% tags=["parameters"]
OVERRIDES = ["experiment=smoke"]  # as on the command line; experiment=kd_deeplab takes a quarter of an hour

# %%
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "train.py").is_file())
RUN_DIR = Path(tempfile.mkdtemp()) / "run"
subprocess.run([sys.executable, ROOT / "train.py", *OVERRIDES, f"hydra.run.dir={RUN_DIR}"], cwd=ROOT, check=True)
print("\n".join(sorted(path.name for path in RUN_DIR.iterdir())))

# %% [markdown]
# ## Results
#
# `results.json` has a row for each network in each engine, all measured through the very engine that is timed.

# %%
from IPython.display import Markdown, display

rows = json.loads((RUN_DIR / "results.json").read_text())
lines = ["| model | engine | mean IoU, % | p50, ms | MB |", "|---|---|---|---|---|"]
for row in rows:
    miou = "-" if row["miou"] is None else f"{100 * row['miou']:.2f}"
    lines.append(f"| {row['model']} | {row['engine']} | {miou} | {row['latency_ms_p50']:.1f} | {row['file_mb']:.1f} |")
display(Markdown("\n".join(lines)))

# %%
from IPython.display import Image

display(Image(RUN_DIR / "figures" / "speed_accuracy.png", width=480))

# %% [markdown]
# ## Images
#
# Image, truth, teacher, student. After one epoch on sixteen images the networks have hardly learnt anything.

# %%
for image in sorted((RUN_DIR / "predictions").glob("*.png"))[:2]:
    display(Image(image))

# %% [markdown]
# ## The file that ships
#
# The INT8 student needs onnxruntime, numpy and Pillow alone. Class names and colours stand in the file itself.

# %%
import numpy as np

from segdistill.inference import Segmenter

segmenter = Segmenter(RUN_DIR / "onnx" / "student.int8.onnx")
image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
mask = segmenter(image)
names = json.loads(segmenter.metadata["classes"])
print({names[index]: int((mask == index).sum()) for index in np.unique(mask)})
assert mask.shape == image.shape[:2]
