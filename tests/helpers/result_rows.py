"""A row of results.json with numbers that are easy to find again."""

from __future__ import annotations

from segdistill.reporting.results import Row

ROW = Row(
    model="student",
    engine="onnxruntime-fp32",
    split="test",
    selected_on=False,
    images=143,
    overall_acc=0.97488,
    mean_acc=0.75029,
    freqw_acc=0.95201,
    miou=None,
    classes_scored=1,
    class_iou={"car": 0.5, "lane": None},
    never_predicted=[],
    collapsed_to=None,
    params=6_254_000,
    gmacs=8.125,
    file_mb=25.31,
    latency_ms_p50=17.04,
    latency_ms_p95=118.26,
    total_ms=25436.7,
    images_per_s=5.62,
    batch_size=8,
    batch_ms_p50=120.5,
    batch_images_per_s=66.4,
    agreement=0.99987,
    threads=2,
    device="A processor with a rather long name @ 2.10GHz",
    input_size=[269, 484],
)
