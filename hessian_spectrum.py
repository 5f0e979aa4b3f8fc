"""The spectrum of the Hessian of a network's mean loss: eigenvalues, trace, density, effective dimension, layers.

    python hessian_spectrum.py --model resnet20 --dataset fashion_mnist_mini --limit 256 \\
        --model_file trained_nets/resnet20_small_batch.safetensors --top 5 --spectrum_file spectrum.h5 --plot
    python hessian_spectrum.py ... --probes 8 --layers --activations Conv2d Linear     more of it, into the same file

    mpirun -n 4 python hessian_spectrum.py --mpi ...      the samples are spread over the ranks

Run the same command again to continue after an interruption: what is finished is in the file. Everything refers to the
Hessian of the mean loss over the samples, with the network in eval mode.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import options
from factories import Factory
from lossatlas.errors import BadInput, BadUsage, CannotWrite, Incomplete, Stop, say
from lossatlas.record import Findings, read_findings, write_findings
from lossatlas.record.continuation import compare
from lossatlas.record.progress import Line, Log
from lossatlas.record.recorder import signals
from preparation import Trained, device_of, load_data, loss_of, network_for, place, provenance, recorded, try_out
from scheduler import World, answer, lead

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import Tensor

    from lossatlas.hessian import Basis, Hessian, Pairs

Calls = Mapping[str, Callable[..., Any]]


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    options.add_network(p)
    options.add_data(p, splits=("train", "test"))
    options.add_curvature(p, tolerance=1e-3)
    g = p.add_argument_group("what to compute")
    g.add_argument(
        "--top", type=options.positive, default=10, metavar="K", help="largest eigenvalues (default: %(default)s)"
    )
    g.add_argument("--bottom", type=options.natural, default=1, metavar="K",
                   help="smallest eigenvalues (default: %(default)s); they take the most products")  # fmt: skip
    g.add_argument("--trace_error", type=options.above_zero, default=0.02, metavar="REL",
                   help="standard error of the trace, relative (default: %(default)s)")  # fmt: skip
    g.add_argument("--trace_most", type=options.positive, default=500, metavar="N",
                   help="products at most for the trace (default: %(default)s)")  # fmt: skip
    g.add_argument("--probes", type=options.positive, default=1, metavar="N", help="vectors for the density of the spectrum; "
                   "the first costs nothing, several give a band (default: %(default)s)")  # fmt: skip
    g.add_argument("--steps", type=options.positive, default=80, metavar="N",
                   help="products for each further probe (default: %(default)s)")  # fmt: skip
    g.add_argument("--z", type=options.above_zero, default=5e-4, help="regularization in the effective dimension, the sum of "
                   "v / (v + z); the one that matches a weight decay is the weight decay (default: %(default)s)")  # fmt: skip
    g.add_argument("--layers", action="store_true", help="the largest eigenvalue of each layer's block too")
    g.add_argument("--activations", type=options.pattern, nargs="*", metavar="PATTERN",
                   help="the trace with respect to what layers give out, for layers whose name or type contains one of these "
                   "(without any: every layer)")  # fmt: skip
    g.add_argument("--at", choices=("output", "input"), default="output",
                   help="with --activations: what layers give out, or take in (default: %(default)s)")  # fmt: skip
    g.add_argument("--activation_error", type=options.above_zero, default=0.1, metavar="REL",
                   help="standard error of each of these traces, relative (default: %(default)s)")  # fmt: skip
    g.add_argument("--activation_most", type=options.positive, default=30, metavar="N",
                   help="probes at most; one takes about a gradient for each layer (default: %(default)s)")  # fmt: skip
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
class Job:
    """What every rank needs; travels from rank 0 to the others."""

    trained: Trained
    loss: str | Factory
    parameters: Sequence[str]
    matrices_only: bool
    device: str
    precision: str
    samples: int
    batch_size: int
    threads: int
    compiled: bool
    activations: Sequence[str] | None
    at: str


def run(world: World, args: argparse.Namespace, command: Sequence[str], log: Log) -> int:
    if not world.root:
        import lossatlas.hessian  # noqa: F401  takes seconds, in which rank 0 reads the data

        job = world.share(None)
        if job is not None:
            answer(world, lambda: calls_of(job, world)[0])
        return 0
    if world.note:
        say(f"note: {world.note}")
    if args.npz and not args.npz.endswith(".npz"):
        raise BadUsage(f"--npz {args.npz}: the name has to end in .npz")
    path, job, fresh = prepare(world, args, command, log)
    findings = fresh if args.force else resume(path, fresh, args.seed)
    if args.dry_run:
        for name, value in {**fresh.request, **fresh.plan, "spectrum file": path}.items():
            say(f"{name} = {value}")
        world.share(None)
        return 0
    world.share(job)
    calls, operator = calls_of(job, world)
    spread = Spread(operator, lead(world, calls))
    way = "folded" if operator.folded else f"not folded: {operator.why_not_folded}"
    findings = replace(findings, plan={**fresh.plan, "path": way, "compiled": args.compile})
    say(f"{path}: {operator.size:,} parameters, {job.samples} samples; "
        f"{world.size} rank{'s' * (world.size > 1)} x {job.threads} threads on {job.device}")  # fmt: skip
    log.line(f"started: {shlex.join(command)}")
    write_findings(path, findings)  # a place that cannot be written is better noticed now than after an hour
    with signals() as caught:
        findings = compute(spread, findings, args, path, caught)
    world.share(None)
    log.line("complete")
    for line in table(findings):
        say(line)
    say(f"complete: {path}")
    finish(findings, path, args)
    return 0


def prepare(world: World, args: argparse.Namespace, command: Sequence[str], log: Log) -> tuple[Path, Job, Findings]:
    """On rank 0: read everything once. Writes nothing."""
    from lossatlas.data import Dataset
    from lossatlas.hessian import usual_batch_size
    from models import load_into, read_state
    from models.checkpoint import digest

    device_of(args.cuda)
    device = "cuda" if args.cuda else "cpu"
    if args.ngpu > 1:
        say(f"note: --ngpu {args.ngpu}: every rank uses one device; start {args.ngpu} times as many ranks instead")
    model, file, chosen = options.model_choice(args), options.model_file(args), options.data_choice(args)
    loss_name = options.loss_choice(args)
    path = place(args.spectrum_file, Path(f"{options.base_name(model, file)}_spectrum.h5"), None)
    if not path.resolve().parent.is_dir():
        raise BadInput(f"no folder {path.parent} for the spectrum file: make it first")
    if not args.dry_run:
        log.beside(path)
    state = read_state(file) if file else {}
    data = load_data(chosen, state, model)
    samples = data[args.split]
    parts = len(samples) if isinstance(samples, Dataset) else len(samples.contents)
    if parts < world.size:
        what = "samples" if isinstance(samples, Dataset) else "batches of different shapes"
        raise BadUsage(f"{parts} {what} cannot be spread over {world.size} ranks: start fewer")
    net = network_for(model, samples)
    if file:
        load_into(net, state, file)
    state = state or {name: value.detach() for name, value in net.state_dict().items()}
    value = try_out(net, model, samples, loss_name)
    threads = args.threads or world.cores
    batch_size = args.batch_size or usual_batch_size(-(-len(samples) // world.size), device, threads)
    job = Job(Trained.of(model, net, data), loss_name, args.parameters, args.matrices_only, device,
              args.precision or "float32", len(samples), batch_size, threads, args.compile, args.activations, args.at)  # fmt: skip
    request = {**recorded("model", model, value), "checkpoint": digest(state), "dataset": samples.name,
               **recorded("loss", loss_name), "split": args.split, "data": samples.digest, "parameters": args.parameters or "all",
               "matrices_only": args.matrices_only, "precision": job.precision}  # fmt: skip
    plan = {"device": device, "batch_size": job.batch_size, "ranks": world.size}
    return (
        path,
        job,
        Findings({}, request, plan, provenance(world, ["hessian_spectrum.py", *command], job.threads, args.seed)),
    )


def resume(path: Path, fresh: Findings, seed: int) -> Findings:
    if not path.exists():
        return fresh
    found, cure = read_findings(path), "give another --spectrum_file, or --force to start over"
    compare(path, found.request, fresh.request, cure)
    for settings in found.about.get("parts", {}).values():
        compare(path, {"seed": settings["seed"]}, {"seed": seed}, cure)
    return found


def calls_of(job: Job, world: World) -> "tuple[Calls, Hessian]":
    """On every rank: products with its share of the samples, summed over the ranks."""
    import torch

    from lossatlas.hessian import Activations, Hessian

    torch.set_num_threads(job.threads)
    device = device_of(job.device == "cuda", world.local_rank)
    net, splits = job.trained.unpack()
    data = next(iter(splits.values()))
    data = data.share(world.rank, world.size)
    net = net.double() if job.precision == "float64" else net

    def reduce(vector: "Tensor") -> "Tensor":
        if world.size == 1:
            return vector
        return torch.from_numpy(world.total(vector.detach().cpu().numpy())).to(vector.device, vector.dtype)

    def total_everywhere(vector: "Tensor") -> "Tensor":
        return torch.from_numpy(world.share(reduce(vector).numpy() if world.root else world.total(vector.numpy())))

    common: dict[str, Any] = {"batch_size": job.batch_size, "device": device}
    hessian = Hessian(net, data, loss_of(job.loss), parameters=job.parameters, matrices_only=job.matrices_only,
                      compiled=job.compiled, reduce=total_everywhere, **common)  # fmt: skip
    hessian.reduce = reduce  # from here on rank 0 alone uses the sums
    calls: dict[str, Callable[..., Any]] = {"product": lambda vector, names: hessian(torch.from_numpy(vector), names)}
    if job.activations is not None:
        activations = Activations(net, data, loss_of(job.loss), patterns=job.activations, at=job.at,
                                  reduce=total_everywhere, **common)  # fmt: skip
        activations.reduce = reduce
        calls["activations"] = lambda seed: activations(seed * world.size + world.rank)
        calls["layers"] = lambda: activations.layers

    def fitting(call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except torch.cuda.OutOfMemoryError as error:
                raise BadUsage(f"a batch of {job.batch_size} does not fit into the memory of {device}: "
                               "use a smaller --batch_size") from error  # fmt: skip

        return guarded

    return {name: fitting(call) for name, call in calls.items()}, hessian


@dataclass(frozen=True)
class Spread:
    """The Hessian, or the block of it that belongs to `names`, as an operator; every product is the work of all ranks."""

    hessian: "Hessian"
    together: Callable[..., Any]
    names: Sequence[str] | None = None

    @property
    def size(self) -> int:
        own = zip(self.hessian.names, self.hessian.shapes, strict=True)
        return sum(shape.numel() for name, shape in own if self.names is None or name in self.names)

    @property
    def dtype(self) -> "torch.dtype":
        return self.hessian.dtype

    @property
    def device(self) -> "torch.device":
        return self.hessian.device

    def __call__(self, vector: "Tensor") -> "Tensor":
        return self.together("product", vector.cpu().numpy(), self.names)


Progress = Callable[[int, float], None]
Make = Callable[[Progress, Mapping[str, Any]], dict[str, Any]]


class Parts:
    """The parts of the spectrum: arrays by name, and what is known of their meaning in `about`."""

    def __init__(self, spread: Spread, args: argparse.Namespace, findings: Findings) -> None:
        self.spread, self.args, self.findings = spread, args, findings
        self.layers = layers_of(spread.hessian)
        self.pairs: Pairs | None = None
        self.about: dict[str, Any] = {
            "layers": [name for name, _, _ in self.layers],
            "parameters": [[n, list(s)] for n, s in zip(spread.hessian.names, spread.hessian.shapes, strict=True)],
        }

    def wanted(self) -> "dict[str, tuple[dict[str, Any], Make]]":
        """The settings of each part that is asked for, and what computes it with such settings; in this order."""
        args = self.args
        search = {"tolerance": args.tolerance, "most": args.most, "seed": args.seed}
        probing = {"error": args.trace_error, "most": args.trace_most, "seed": args.seed}
        parts: dict[str, tuple[dict[str, Any], Make]] = {
            "eigenvalues": ({"top": args.top, "bottom": args.bottom, **search}, self.eigenvalues),
            "trace": (probing, self.trace),
            "density": ({"probes": args.probes, "steps": args.steps, "seed": args.seed}, self.density),
        }
        if args.layers:
            parts["layers"] = (search, self.blocks)
        if args.activations is not None:
            parts["activations"] = ({"patterns": args.activations, "at": args.at, "error": args.activation_error,
                                     "most": args.activation_most, "seed": args.seed}, self.activations)  # fmt: skip
        return parts

    def eigenvalues(self, progress: Progress, settings: Mapping[str, Any]) -> dict[str, Any]:
        from lossatlas.hessian import lanczos

        self.pairs = found = lanczos(self.spread, **settings, progress=progress)
        top = len(found.values) - min(settings["bottom"], len(found.values))
        result = {"eigenvalues": found.values[:top], "residuals": found.residuals[:top], "converged": found.converged[:top],
                  "bounds": found.bounds, "smallest_converged": found.converged[top:][::-1],
                  "eigenvectors": found.vectors.cpu().numpy(), "eigenvalue_products": found.products}  # fmt: skip
        result |= {"smallest": found.values[top:][::-1], "smallest_residuals": found.residuals[top:][::-1]}
        if settings["bottom"]:
            result |= {"min_eig": found.values[-1], "min_eig_residual": found.residuals[-1]}
        return result

    def trace(self, progress: Progress, settings: Mapping[str, Any]) -> dict[str, Any]:
        from lossatlas.hessian import hutchinson

        # When the eigenvalues come from the file, their vectors are all that is left of the basis.
        found = hutchinson(self.spread, tolerance=settings["error"], most=settings["most"], seed=settings["seed"] + 1,
                           known=self.pairs or Remembered.of(self.findings, self.spread),
                           blocks=[size for _, _, size in self.layers], progress=progress)  # fmt: skip
        return {"trace": found.value, "trace_se": found.error, "trace_products": found.products,
                "layers/size": [size for _, _, size in self.layers], "layers/trace": found.blocks,
                "layers/trace_se": found.block_errors}  # fmt: skip

    def density(self, progress: Progress, settings: Mapping[str, Any]) -> dict[str, Any]:
        from lossatlas.hessian import density

        found = density(self.spread, **settings, first=self.pairs,
                        progress=progress)  # fmt: skip
        return {f"density/{name}": getattr(found, name) for name in CURVES}

    def blocks(self, progress: Progress, settings: Mapping[str, Any]) -> dict[str, Any]:
        from lossatlas.hessian import lanczos

        values, residuals, converged, done = [], [], [], 0
        for _, names, _ in self.layers:
            block = replace(self.spread, names=names)
            found = lanczos(block, top=1, **settings, progress=lambda n, r: progress(done + n, r))  # noqa: B023
            values.append(found.values[0])
            residuals.append(found.residuals[0])
            converged.append(found.converged[0])
            done += found.products
        return {
            "layers/max_eig": values,
            "layers/max_eig_residual": residuals,
            "layers/max_eig_converged": converged,
        }

    def activations(self, progress: Progress, settings: Mapping[str, Any]) -> dict[str, Any]:
        from lossatlas.hessian import traces

        together = self.spread.together
        seen = together("layers")
        found = traces(lambda seed: together("activations", seed), seen, tolerance=settings["error"],
                       most=settings["most"], seed=settings["seed"], progress=progress)  # fmt: skip
        self.about["activations"] = [[name, kind, list(shape)] for name, kind, shape in seen]
        return {
            "activations/trace": found.values,
            "activations/trace_se": found.errors,
            "activations/probes": found.probes,
        }


def compute(spread: Spread, findings: Findings, args: argparse.Namespace, path: Path, caught: list[int]) -> Findings:
    """Every part that is not in the file yet; each is saved when it is finished."""
    from lossatlas.hessian import check_deterministic

    parts = Parts(spread, args, findings)
    for name, (settings, make) in parts.wanted().items():
        done = findings.about.get("parts", {})
        if satisfies(name, done.get(name, {}), settings, findings.arrays):
            say(f"{name}: in the file already")
            continue
        if not findings.about.get("deterministic"):
            check_deterministic(spread)
        settings = together_with(done.get(name, {}), settings)
        with reporting(name, caught) as progress:
            arrays = make(progress, settings)
        parts.about |= {"deterministic": True, "parts": {**done, name: settings}}
        parts.findings = findings = findings.with_arrays(arrays, **parts.about)
        write_findings(path, findings)
    findings = findings.with_arrays(dimension(findings, spread, args.z))
    write_findings(path, findings)
    return findings


CURVES = ("grid", "density", "density_se", "cumulative", "cumulative_se", "nodes", "weights", "sigma")
AT_LEAST = ("top", "bottom", "probes", "steps")
AT_MOST = ("tolerance", "error")


def satisfies(name: str, found: Mapping[str, Any], asked: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a part that was computed with the settings `found` is as good as what is asked for now."""
    if not found or (name == "eigenvalues" and "bounds" not in arrays):  # of a version that stated none
        return False
    if name == "layers" and "layers/max_eig_converged" not in arrays:
        return False
    for key, value in asked.items():
        if key in AT_LEAST:
            good = found[key] >= value
        elif key in AT_MOST:
            good = found[key] <= value
        elif key == "most":  # a limit matters to what fell short of its goal
            good = found[key] >= value or reached(name, asked, arrays)
        else:
            good = found[key] == value
        if not good:
            return False
    return True


def together_with(found: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with which a part is computed again, so that nothing of what is there gets lost."""
    if any(found.get(key) != asked[key] for key in ("patterns", "at") if key in asked):  # other activations
        return dict(asked)
    better = {**dict.fromkeys((*AT_LEAST, "most"), max), **dict.fromkeys(AT_MOST, min)}
    return {key: better[key](value, found.get(key, value)) if key in better else value for key, value in asked.items()}


def reached(name: str, asked: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a part is as exact as it should be."""
    if name == "eigenvalues":
        return bool(arrays["converged"].all() and arrays["smallest_converged"].all())
    if name == "trace":
        return bool(arrays["trace_se"] <= asked["error"] * abs(arrays["trace"]))
    return name == "layers" and bool(arrays["layers/max_eig_converged"].all())


def dimension(findings: Findings, spread: Spread, z: float) -> dict[str, Any]:
    """The effective dimension from the largest eigenvalues, with bounds for the rest."""
    from lossatlas.hessian import Spectrum, effective_dimension

    a = findings.arrays
    curves: dict[str, Any] = {name: a[f"density/{name}"] for name in CURVES}
    found = effective_dimension(a["eigenvalues"], z, size=spread.size, highest=float(a["bounds"][1]),
                                spectrum=Spectrum(**curves, products=0))  # fmt: skip
    return {"effective_dimension": [found.known, found.low, found.high], "z": z}


@dataclass(frozen=True)
class Remembered:
    """What saved eigenvectors know of the trace, see hessian.lanczos.Captured."""

    basis: "Basis"
    captured: "Tensor"

    @classmethod
    def of(cls, findings: Findings, spread: Spread) -> "Remembered":
        import torch

        from lossatlas.hessian import Basis

        vectors = torch.from_numpy(findings.arrays["eigenvectors"]).to(spread.device, spread.dtype)
        values = [*findings.arrays["eigenvalues"], *findings.arrays["smallest"][::-1]]
        basis = Basis(spread.size, spread.dtype, spread.device)
        for vector in vectors:
            basis.add(vector)
        return cls(basis, torch.from_numpy(np.array(values)).to(spread.device) @ vectors.double() ** 2)


def layers_of(hessian: "Hessian") -> list[tuple[str, list[str], int]]:
    """The parameters of each module: its name, theirs, and how many numbers they are; in the order of the vector."""
    result: list[tuple[str, list[str], int]] = []
    for name, shape in zip(hessian.names, hessian.shapes, strict=True):
        owner = name.rpartition(".")[0] or name
        if result and result[-1][0] == owner:
            result[-1] = (owner, [*result[-1][1], name], result[-1][2] + shape.numel())
        else:
            result.append((owner, [name], shape.numel()))
    return result


@contextmanager
def reporting(name: str, caught: list[int]) -> Iterator[Callable[[int, float], None]]:
    """Progress of a part; a signal ends it between two products."""
    line, last = Line(), (0, 0.0)
    what = {"trace": "standard error", "activations": "relative standard error"}.get(name, "relative residual")
    unit = "probes" if name == "activations" else "products"

    def progress(products: int, residual: float) -> None:
        nonlocal last
        last = products, residual
        if caught:
            raise Incomplete(
                f"stopped by {signal.Signals(caught[0]).name} in the part '{name}'; the parts before it are saved"
            )
        line.show(f"{name}: {products} {unit}, {what} {residual:.2g}")

    yield progress
    line.end(f"{name}: {last[0]} {unit}, {what} {last[1]:.2g}" if last[0] else f"{name}: from what is there")


def table(findings: Findings) -> list[str]:
    """What was found, as lines of text."""
    a, about = findings.arrays, findings.about
    size = sum(int(np.prod(shape)) for _, shape in about["parameters"])
    lines = [f"Hessian of the mean loss ({findings.request['loss']}, {findings.request['split']}), {size:,} parameters:",
             "     eigenvalue    residual"]  # fmt: skip
    rows = [*zip([f"{k}" for k in range(1, 1 + len(a["eigenvalues"]))], a["eigenvalues"], a["residuals"], a["converged"],
                 strict=True)]  # fmt: skip
    if len(a["smallest"]):
        labels = ["min", *[f"min+{k}" for k in range(1, len(a["smallest"]))]]
        rows += [*zip(labels, a["smallest"], a["smallest_residuals"], a["smallest_converged"], strict=True)][::-1]
    lines += [f"{label:>5} {value:12.6g} {residual:9.1e}"
              + ("" if resolved else " not resolved: more products with --most")
              for label, value, residual, resolved in rows]  # fmt: skip
    lines.append(
        "no eigenvalue is below {:.6g} or above {:.6g} (each but for a probability of 1e-3)".format(*a["bounds"])
    )
    lines.append(f"trace: {float(a['trace']):.6g} +- {float(a['trace_se']):.2g}"
                 f" ({int(a['trace_products'])} products after {int(a['eigenvalue_products'])} for the eigenvalues)")  # fmt: skip
    known, low, high = a["effective_dimension"]
    lines.append(f"effective dimension at z = {float(a['z']):g}: {known:.4g} from these eigenvalues, "
                 f"between {low:.4g} and {high:.4g} with all others (closer with more --top, --probes and --steps)")  # fmt: skip
    if "layers/trace" in a:
        top = a.get("layers/max_eig")
        lines.append(
            "blocks of the layers:  parameters         trace" + ("   largest eigenvalue" if top is not None else "")
        )
        for k, name in enumerate(about["layers"]):
            value, error = a["layers/trace"][k], a["layers/trace_se"][k]
            lines.append(f"  {name:<24} {int(a['layers/size'][k]):9,} {value:11.5g} +- {error:.1e}"
                         + ("" if top is None else f" {top[k]:11.5g}"
                            + " not resolved" * (not a["layers/max_eig_converged"][k])))  # fmt: skip
    if "activations/trace" in a:
        lines.append(
            f"with respect to activations ({about['parts']['activations']['at']}s), mean over the samples:  trace"
        )
        for k, (name, kind, shape) in enumerate(about["activations"]):
            lines.append(f"  {name:<24} {kind:<14} {'x'.join(map(str, shape)):<12} {a['activations/trace'][k]:11.5g} "
                         f"+- {a['activations/trace_se'][k]:.1e}")  # fmt: skip
    return lines


def finish(findings: Findings, path: Path, args: argparse.Namespace) -> None:
    if args.npz:
        a = findings.arrays
        values = np.concatenate([a["eigenvalues"], a["smallest"][::-1]])
        if loose := int((~a["converged"]).sum() + (~a["smallest_converged"]).sum()):
            say(f"note: {loose} of the {len(values)} eigenvalues in {args.npz} are not resolved")
        try:
            np.savez(args.npz, pos_evals=values[values > 0], neg_evals=values[values < 0])
        except OSError as error:
            raise CannotWrite(f"cannot write {args.npz}: {error.strerror}") from error
        say(f"wrote {args.npz}")
    say(f"surfaces along eigenvectors: plot_surface.py ... --xdirection {path}:1 --ydirection {path}:2")
    if args.plot:
        import plot_spectrum

        try:
            plot_spectrum.draw(path, show=args.show)
        except Stop as error:  # the file is complete all the same
            say(f"note: not drawn: {error}")


def main(argv: Sequence[str] | None = None) -> int:
    command = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(command)
    log = Log(args.spectrum_file)
    return options.launch(args.mpi, lambda world: run(world, args, command, log), log.line)


if __name__ == "__main__":
    options.leave(main())
