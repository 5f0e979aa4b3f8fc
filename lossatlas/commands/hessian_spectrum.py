"""The spectrum of the Hessian of a network's mean loss: eigenvalues, trace, density, effective dimension, layers.

    python hessian_spectrum.py --model resnet20 --dataset fashion_mnist_mini --limit 256 \\
        --model_file trained_nets/resnet20_small_batch.safetensors --top 5 --spectrum_file spectrum.h5 --plot
    python hessian_spectrum.py ... --probes 8 --layers --activations Conv2d Linear     more of it, into the same file

    mpirun -n 4 python hessian_spectrum.py --mpi ...      the samples are spread over the ranks

Run the same command again to continue after an interruption: what is finished is in the file. Everything refers to the
Hessian of the mean loss over the samples, with the network in eval mode.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.commands import options
from lossatlas.errors import BadUsage, CannotWrite, Stop, say
from lossatlas.io import Findings, write_findings
from lossatlas.io.atomic_write import set_aside, write_file
from lossatlas.io.lock import Lock
from lossatlas.io.progress import Log, format_duration
from lossatlas.io.recorder import reporting, signals
from lossatlas.io.resume import resume_findings
from lossatlas.jobs import distributed_hessian, file_names
from lossatlas.jobs.distributed_hessian import HessianJob, check_enough_samples, collective_calls, output_lock
from lossatlas.jobs.inputs import PackedInputs, device_of, function_record, load_inputs, output_path, provenance
from lossatlas.mpi import launch
from lossatlas.mpi.communicator import World
from lossatlas.mpi.scheduler import lead
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import Tensor

    from lossatlas.hessian import Hessian
    from lossatlas.jobs.spectrum_parts import ActivationProbes


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    options.add_network(p)
    options.add_data(p, splits=("train", "test"))
    options.add_selection(options.add_curvature(p, tolerance=1e-3), "vary")
    g = p.add_argument_group("what to compute")
    g.add_argument(
        "--top", type=options.positive, default=10, metavar="K", help="largest eigenvalues (default: %(default)s)"
    )
    g.add_argument(
        "--bottom",
        type=options.natural,
        default=1,
        metavar="K",
        help="smallest eigenvalues (default: %(default)s); they take the most products",
    )
    g.add_argument(
        "--trace_error",
        type=options.above_zero,
        default=0.02,
        metavar="REL",
        help="standard error of the trace, relative (default: %(default)s)",
    )
    g.add_argument(
        "--trace_most",
        type=options.positive,
        default=500,
        metavar="N",
        help="products at most for the trace (default: %(default)s)",
    )
    g.add_argument(
        "--probes",
        type=options.positive,
        default=1,
        metavar="N",
        help="vectors for the density of the spectrum; "
        "the first costs nothing, several give a band (default: %(default)s)",
    )
    g.add_argument(
        "--steps",
        type=options.positive,
        default=80,
        metavar="N",
        help="products for each further probe (default: %(default)s)",
    )
    g.add_argument(
        "--z",
        type=options.above_zero,
        default=5e-4,
        help="regularization in the effective dimension, the sum of "
        "v / (v + z); the one that matches a weight decay is the weight decay (default: %(default)s)",
    )
    g.add_argument("--layers", action="store_true", help="the largest eigenvalue of each layer's block too")
    g.add_argument(
        "--activations",
        type=options.pattern,
        nargs="*",
        metavar="PATTERN",
        help="the trace with respect to what layers give out, for layers whose name or type contains one of these "
        "(without any: every layer)",
    )
    g.add_argument(
        "--at",
        choices=("output", "input"),
        default="output",
        help="with --activations: what layers give out, or take in (default: %(default)s)",
    )
    g.add_argument(
        "--activation_error",
        type=options.above_zero,
        default=0.1,
        metavar="REL",
        help="standard error of each of these traces, relative (default: %(default)s)",
    )
    g.add_argument(
        "--activation_most",
        type=options.positive,
        default=30,
        metavar="N",
        help="probes at most; one takes about a gradient for each layer (default: %(default)s)",
    )
    g.add_argument("--seed", type=options.natural, default=0, help="of the random vectors (default: %(default)s)")
    g = options.add_ranks(p)
    options.add_products(g)
    g.add_argument(
        "--spectrum_file", metavar="OUT.h5", help="file to write, or to continue (default: beside the checkpoint)"
    )
    g.add_argument("--npz", metavar="OUT.npz", help="write the eigenvalues as pos_evals and neg_evals too")
    g.add_argument("--force", action="store_true", help="start over even if the file exists")
    g.add_argument("--dry_run", action="store_true", help="print what would be computed and stop")
    g = p.add_argument_group("figures")
    g.add_argument("--plot", action="store_true", help="draw the figures")
    g.add_argument("--show", action="store_true", help="open windows too")
    return p


@dataclass(frozen=True)
class SpectrumTask:
    """Everything that this command is told. wanted: the settings of `lossatlas.jobs.spectrum_parts.Wanted` by name."""

    model: config.Model
    model_file: str
    data: config.DataConfig
    loss: str | UserFunction
    hessian: config.HessianConfig
    wanted: Mapping[str, Any]
    run: config.RunConfig
    spectrum_file: str | None
    npz: str | None
    force: bool
    dry_run: bool
    plot: bool
    show: bool
    command: str

    @classmethod
    def of(cls, args: argparse.Namespace, command: Sequence[str]) -> "SpectrumTask":
        """Raises BadUsage."""
        if args.npz and not args.npz.endswith(".npz"):
            raise BadUsage(f"--npz {args.npz}: the name has to end in .npz")
        names = (
            "top",
            "bottom",
            "tolerance",
            "most",
            "trace_error",
            "trace_most",
            "probes",
            "steps",
            "z",
            "layers",
            "activations",
            "at",
            "activation_error",
            "activation_most",
            "seed",
        )
        own = ("spectrum_file", "npz", "force", "dry_run", "plot", "show")
        return cls(
            options.model_choice(args),
            options.model_file(args),
            options.data_choice(args),
            options.loss_choice(args),
            options.hessian_choice(args),
            {name: getattr(args, name) for name in names},
            options.run_choice(args),
            **{name: getattr(args, name) for name in own},
            command=shlex.join(["python", *command]),
        )


def run(world: World, order: Callable[[], SpectrumTask], log: Log) -> int:
    """order: gives what is asked for, on rank 0 alone, where wrong usage is said."""

    def leading() -> int:
        task = order()
        with ExitStack() as held:
            return lead_spectrum(world, task, log, held)

    return distributed_hessian.run_collective(world, leading)


def lead_spectrum(world: World, task: SpectrumTask, log: Log, held: ExitStack) -> int:
    """On rank 0: see `run`. held: lets go of the lock on the output."""
    with chdir("."):  # a user's code may go elsewhere
        path, job, findings, lock = prepare(world, task, log, held)
    if not task.force:
        findings = resume_findings(path, findings, task.wanted["seed"])
    if task.dry_run:
        for name, value in {**findings.request, **findings.plan, "spectrum file": path}.items():
            say(f"{name} = {value}")
        world.share(None)
        print_dry_run(job, path, task)
        return 0
    world.share(job)
    with chdir("."):
        calls, hessian = collective_calls(job, world)
    spread = DistributedHessian(hessian, lead(world, calls))
    way = "folded" if hessian.folded else "not folded"
    findings = replace(findings, plan={**findings.plan, "path": way, "compiled": task.hessian.compiled})
    ranks = f"{world.size} rank{'s' * (world.size > 1)}"
    say(
        f"{path}: {spread.size:,} parameters, {job.samples} samples; "
        f"{ranks} x {job.run.threads} threads on {job.run.device}"
    )
    log.line(f"started: {task.command}")
    if task.force and (old := set_aside(path)):
        say(f"note: the file that was there is now {old}")
    write_findings(path, findings)  # a place that cannot be written is better noticed now than after an hour
    with chdir("."):
        findings = computed(task, spread, findings, Path(os.path.abspath(path)), lock)
    world.share(None)
    log.line("complete")
    finish(findings, path, task)
    return 0


def computed(task: SpectrumTask, spread: "DistributedHessian", findings: Findings, path: Path, lock: Lock) -> Findings:
    """The complete spectrum; each part is saved when it is finished. A signal ends it between two products."""
    from lossatlas.jobs.spectrum_parts import SpectrumSettings, compute

    def save(found: Findings) -> None:
        lock.check()
        write_findings(path, found)

    with signals() as caught:
        return compute(
            spread,
            SpectrumSettings(**task.wanted),
            findings,
            probes=spread.probes(),
            save=save,
            during=lambda part: reporting(part, caught),
            known=lambda part: say(f"{part}: in the file already"),
        )


def print_dry_run(job: HessianJob, path: Path, task: SpectrumTask) -> None:
    """Say what the job needs: from one product with all samples, by one rank."""
    import torch

    from lossatlas.data.memory import in_words
    from lossatlas.jobs.dry_run import check_space, has_cuda

    if task.run.cuda and not has_cuda():
        say("time: not measured, because there is no CUDA device here")
        return
    _, hessian = collective_calls(job, World())
    wanted, own = task.wanted, hessian.size * hessian.dtype.itemsize
    check_space(path, own * (wanted["top"] + wanted["bottom"]))
    began = time.perf_counter()
    hessian(torch.ones(hessian.size, dtype=hessian.dtype, device=hessian.device)).sum().item()
    seconds = time.perf_counter() - began
    most = wanted["most"] + wanted["trace_most"] + (wanted["probes"] - 1) * wanted["steps"]
    say(f"spectrum file: about {in_words(own * (wanted['top'] + wanted['bottom']))}")
    say(
        f"time: about {seconds:.3g} s for a product on one rank, and at most {most} products for eigenvalues, trace and "
        f"density: up to {format_duration(most * seconds)}"
        + ", and more for layers and activations"
        * bool(wanted["layers"] or wanted["activations"] is not None)
    )
    say(
        f"memory: up to {in_words(own * wanted['most'])} for the vectors of a run of Lanczos, beside the network and the data"
    )


def prepare(world: World, task: SpectrumTask, log: Log, held: ExitStack) -> tuple[Path, HessianJob, Findings, Lock]:
    """On rank 0: read everything once. Writes nothing but the lock."""
    from lossatlas.hessian import usual_batch_size
    from lossatlas.jobs.spectrum_parts import SpectrumSettings

    SpectrumSettings(**task.wanted)
    if not task.dry_run:
        device_of(task.run.cuda)
    model, file = task.model, task.model_file
    path = output_path(task.spectrum_file, Path(f"{file_names.base_name(model, file)}_spectrum.h5"), None)
    lock = output_lock("spectrum", path, task.dry_run, log, held)
    loaded = load_inputs(config.NetworkConfig(model, file, None, None), "weights", task.data, task.loss)
    samples = loaded.first
    check_enough_samples(loaded, world)
    threads = task.run.threads or world.cores
    size = task.run.batch_size or usual_batch_size(-(-len(samples) // world.size), task.run.device, threads)
    run = replace(task.run, threads=threads, batch_size=size)
    wanted = task.wanted
    job = HessianJob(
        PackedInputs.of(loaded),
        task.loss,
        task.hessian,
        run,
        len(samples),
        wanted["activations"],
        wanted["at"],
    )
    from lossatlas.evaluation.precision import product_precision

    request = {
        **{name: value for name, value in loaded.record.items() if name != "dir_type"},
        "dataset": samples.name,
        **function_record("loss", task.loss),
        "split": task.data.split,
        "data": samples.digest,
        "parameters": list(task.hessian.parameters) or "all",
        **({"without": list(task.hessian.without)} if task.hessian.without else {}),
        "matrices_only": task.hessian.matrices_only,
        "precision": product_precision(run.precision, loaded.net),
    }
    plan = {"device": run.device, "batch_size": size, "ranks": world.size}
    about = {**provenance(world, task.command, threads, wanted["seed"]), "sketches": {"data": samples.sketch}}
    return path, job, Findings({}, request, plan, about), lock


@dataclass(frozen=True)
class DistributedHessian:
    """The Hessian, or the block of it that belongs to `chosen`, as an operator; every product is the work of all ranks."""

    hessian: "Hessian"
    together: Callable[..., Any]
    chosen: Sequence[str] | None = None

    @property
    def names(self) -> Sequence[str]:
        return self.hessian.names

    @property
    def shapes(self) -> "Sequence[torch.Size]":
        return self.hessian.shapes

    @property
    def size(self) -> int:
        from lossatlas.hessian.hvp import size_of

        return size_of(self.names, self.shapes, self.chosen)

    @property
    def dtype(self) -> "torch.dtype":
        return self.hessian.dtype

    @property
    def device(self) -> "torch.device":
        return self.hessian.device

    def __call__(self, vector: "Tensor") -> "Tensor":
        return self.together("product", vector.cpu().numpy(), self.chosen)

    def block(self, names: Sequence[str]) -> "DistributedHessian":
        return replace(self, chosen=names)

    def probes(self) -> "ActivationProbes":
        from lossatlas.jobs.spectrum_parts import ActivationProbes

        return ActivationProbes(lambda seed: self.together("activations", seed), lambda: self.together("layers"))


def finish(findings: Findings, path: Path, task: SpectrumTask) -> None:
    """Say what was found, and write and draw what is asked for."""
    from lossatlas.jobs.spectrum_parts import table

    for line in table(findings):
        say(line)
    say(f"complete: {path}")
    if task.npz:
        write_npz(task.npz, findings)
    say(f"surfaces along eigenvectors: plot_surface.py ... --xdirection {path}:1 --ydirection {path}:2")
    if task.plot:
        from lossatlas.commands import plot_spectrum

        try:
            plot_spectrum.draw(path, show=task.show)
        except CannotWrite:
            raise
        except Stop as error:  # the file is complete all the same
            say(f"note: not drawn: {error}")


def write_npz(name: str, findings: Findings) -> None:
    """The eigenvalues as pos_evals and neg_evals. Raises CannotWrite."""
    a = findings.arrays
    values = np.concatenate([a["eigenvalues"], a["smallest"][::-1]])
    if loose := int((~a["converged"]).sum() + (~a["smallest_converged"]).sum()):
        say(f"note: {loose} of the {len(values)} eigenvalues in {name} are not resolved")
    write_file(name, lambda file: np.savez(file, pos_evals=values[values > 0], neg_evals=values[values < 0]))
    say(f"wrote {name}")


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    log = Log(args.spectrum_file)
    return launch.launch(
        args.mpi,
        lambda world: run(world, lambda: SpectrumTask.of(args, ["hessian_spectrum.py", *command]), log),
        log.line,
    )
