"""`segdistill benchmark operators`: where the time of a training step goes, operator by operator.

Beside each operator stands how fast it multiplies, and beside the step what the same cores reach in a matrix product.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from segdistill.benchmarks.steps import add_batch_arguments, hold_instructions, processor, step_seconds
from segdistill.benchmarks.training import NUM_CLASSES, STEPS, STUDENT
from segdistill.utils.console import compact_table, terminal
from segdistill.utils.hardware import cpu_count, cpu_multiplies_bf16
from segdistill.utils.io import write_json
from segdistill.utils.worker import Serve, SubprocessWorker

STEP = "distillation, cached logits"
WARM_UP = 2  # steps
SHOWN = 0.01  # share of the time from which an operator has a row
BETWEEN = "between operators"
MATRIX, PRODUCTS = 2048, 6
CONVOLUTIONS = {torch.ops.aten.convolution: 1, torch.ops.aten.convolution_backward: 2}
"""Operator -> place of its kernel among the arguments."""


class OperatorClock(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what every operator takes and multiplies while it is entered, on a device that computes synchronously.

    Attributes:
        seconds: Seconds by operator.
        flops: Floating-point operations by operator, two for each product that is added; not counted for those that
            multiply little.
        calls: Number of calls by operator.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.flops: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator by the clock."""
        begin = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        spent = time.perf_counter() - begin
        name = operator_name(func, args)
        self.seconds[name] += spent
        self.flops[name] += operator_flops(func, args, result)
        self.calls[name] += 1
        return result


def operator_name(func: Any, args: tuple[Any, ...]) -> str:
    """Return the name of an operator as it is executed, and whether gradients are being computed.

    Convolutions are told apart by kernel, groups and dilation. The backward pass of a depthwise layer has others than
    the layer itself (`models/cpu_depthwise.py`).
    """
    packet = func.overloadpacket
    name = str(packet).removeprefix("aten.")
    if packet in CONVOLUTIONS:
        kernel, dilation, groups = (args[CONVOLUTIONS[packet] + place] for place in (0, 4, 7))
        kind = "depthwise " if groups > 1 and kernel.shape[1] == 1 else ""
        name = f"convolution {kind}{kernel.shape[-2]} x {kernel.shape[-1]}{', dilated' if dilation[0] > 1 else ''}"
    return f"{name}, backward" if torch._C._current_graph_task_id() >= 0 else name


def operator_flops(func: Any, args: tuple[Any, ...], result: Any) -> int:
    """Return the floating-point operations of a convolution or a matrix product; 0 for other operators."""
    packet = func.overloadpacket
    if packet in CONVOLUTIONS:
        place = CONVOLUTIONS[packet]
        kernel: Tensor = args[place]
        backward, transposed = packet is torch.ops.aten.convolution_backward, args[place + 5]
        input, output = (args[1], args[0]) if backward else (args[0], result)
        multiplied: Tensor = input if transposed else output
        products = multiplied.numel() * kernel[0].numel()
        return 2 * products * (int(sum(args[-1][:2])) if backward else 1)
    counted: Callable[..., int] | None = flop_registry.get(packet)
    return int(counted(*args, out_val=result)) if counted else 0


def matrix_product_flops(dtype: torch.dtype) -> float:
    """Measure the floating-point operations a second of a large matrix product."""
    left, right = (torch.rand(MATRIX, MATRIX).to(dtype) for _ in range(2))
    fastest = math.inf
    for _ in range(PRODUCTS):
        begin = time.perf_counter()
        left @ right
        fastest = min(fastest, time.perf_counter() - begin)
    return 2 * MATRIX**3 / fastest


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_batch_arguments(command)
    command.add_argument("--step", choices=list(STEPS), default=STEP, help="as in benchmark training")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--output", type=Path, default=Path("benchmark-operators.json"))


def run(arguments: argparse.Namespace) -> None:
    """Run the benchmark, print a table and save it as JSON."""
    hold_instructions(arguments.instructions)
    batch = arguments.batch_size, *arguments.size
    with SubprocessWorker("operators", _clocking, arguments.step, batch) as worker:
        worker.wait_until_ready()
        content = worker.call(arguments.rounds)
    device = processor(arguments.instructions)
    content |= {
        "step": arguments.step,
        "student": "deeplabv3_lite",
        "batch": batch,
        "threads": cpu_count(),
        "device": device,
    }
    terminal().print(_table(content))
    write_json(arguments.output, content)


def _clocking(name: str, batch: tuple[int, int, int]) -> Serve:
    """Build a step; return a function that runs it some times and measures it."""
    torch.manual_seed(0)
    count, *size = batch
    step = STEPS[name](STUDENT, torch.rand(count, 3, *size), torch.randint(0, NUM_CLASSES, (count, *size)))
    for _ in range(WARM_UP):
        step()

    def measure(rounds: int) -> dict[str, Any]:
        seconds = statistics.median(step_seconds(step) for _ in range(rounds))
        with OperatorClock() as clock:
            whole = sum(step_seconds(step) for _ in range(rounds))
        flops, between = sum(clock.flops.values()) / rounds, whole - sum(clock.seconds.values())
        operators = [
            {
                "operator": operator,
                "calls": clock.calls[operator] / rounds,
                "share": spent / whole,
                "gflop": clock.flops[operator] / rounds / 1e9,
                "gflop_per_s": clock.flops[operator] / spent / 1e9,
            }
            for operator, spent in sorted(clock.seconds.items(), key=lambda item: item[1], reverse=True)
        ]
        share = between / whole
        operators.append({"operator": BETWEEN, "calls": 0.0, "share": share, "gflop": 0.0, "gflop_per_s": 0.0})
        dtypes = (torch.float32, torch.bfloat16) if cpu_multiplies_bf16() else (torch.float32,)
        return {
            "seconds": seconds,
            "gflop": flops / 1e9,
            "gflop_per_s": flops / seconds / 1e9,
            "product_gflop_per_s": {str(d).removeprefix("torch."): matrix_product_flops(d) / 1e9 for d in dtypes},
            "operators": operators,
            "capability": torch.backends.cpu.get_cpu_capability(),
        }

    return measure


def _table(content: Mapping[str, Any]) -> Table:
    count, height, width = content["batch"]
    rate, products = content["gflop_per_s"], content["product_gflop_per_s"]
    shares = " and ".join(f"{100 * rate / peak:.0f} % of the {peak:.0f} of {name}" for name, peak in products.items())
    table = compact_table(
        f"{content['student']}, {content['step']}: {content['seconds']:.3f} s for {count} x {height} x {width}",
        f"{rate:.0f} GFLOP/s, {shares} products; {content['threads']} threads on {content['device']}",
    )
    for heading in ("operator", "calls", "% of time", "GFLOP", "GFLOP/s"):
        table.add_column(heading, justify="left" if heading == "operator" else "right")
    *operators, between = content["operators"]
    shown = [row for row in operators if row["share"] >= SHOWN]
    for row in shown:
        flops = (f"{row['gflop']:.1f}", f"{row['gflop_per_s']:.0f}") if row["gflop"] else ("-", "-")
        table.add_row(row["operator"], f"{row['calls']:.0f}", f"{100 * row['share']:.1f}", *flops)
    others = operators[len(shown) :]
    table.add_row(f"{len(others)} others", "", f"{100 * sum(row['share'] for row in others):.1f}", "", "")
    table.add_row(between["operator"], "", f"{100 * between['share']:.1f}", "", "")
    return table
