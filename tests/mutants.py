"""Deliberate faults, and whether the tests find them: python tests/mutants.py [--jobs 2] [--only NAME ...]

Each fault replaces one text in one file of a temporary copy of the project, where the named tests, which are part of
`make test`, are run. A text that is not there exactly once is an error, so that the table follows the code.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST = 37  # faults that have to be found: all but two
LONGEST = 900  # seconds; a fault that makes a test hang is found, too
OTHERS = (".git", ".venv", "demo", "__pycache__", ".*_cache", "_build", "shared")


@dataclass(frozen=True)
class Mutant:
    """A fault: `old` becomes `new` in `file`. tests: names of test files without test_ and .py."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def mutant(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, old, new, tests)


PARAMETER_SPACE, HESSIAN, IO = "lossatlas/parameter_space", "lossatlas/hessian", "lossatlas/io"
LANDSCAPE, EVALUATION = "lossatlas/landscape", "lossatlas/evaluation"
MUTANTS = (
    mutant(
        "filter norm of the whole tensor",
        f"{PARAMETER_SPACE}/normalization.py",
        "return d * (w.flatten(1).norm(dim=1).view_as(rows) / (rows + TINY))",
        "return d * (w.norm() / (d.norm() + TINY))",
        "parameter_space",
        "net_plotter",
    ),
    mutant(
        "biases are not ignored",
        f"{PARAMETER_SPACE}/normalization.py",
        'return torch.zeros_like(d) if ignore == "biasbn" else widened(w).clone()',
        'return torch.zeros_like(d) if ignore == "bias" else widened(w).clone()',
        "parameter_space",
        "net_plotter",
    ),
    mutant(
        "repeats share a seed",
        f"{PARAMETER_SPACE}/directions.py",
        "np.random.SeedSequence([seed, idx, axis])",
        "np.random.SeedSequence([seed, 0, axis])",
        "parameter_space",
    ),
    mutant(
        "projection without right angles",
        f"{PARAMETER_SPACE}/projection.py",
        "coordinates = np.linalg.solve(gram, right.T).T",
        "coordinates = right / np.sqrt(np.diag(gram))",
        "projection",
    ),
    mutant(
        "rows and columns of a cell",
        f"{LANDSCAPE}/grid.py",
        "np.unravel_index(cell, self.shape)",
        "np.unravel_index(cell, self.shape[::-1])[::-1]",
        "volumes",
    ),
    mutant(
        "no finite-population factor",
        f"{LANDSCAPE}/statistics.py",
        "np.sqrt(variance * np.maximum(1 - n / population, 0))",
        "np.sqrt(variance * np.ones_like(n))",
        "landscape",
    ),
    mutant(
        "sum of squares",
        f"{EVALUATION}/loss_sums.py",
        "square = loss * loss",
        "square = loss.abs()",
        "evaluation",
        "multilevel",
    ),
    mutant(
        "a tolerance stops early",
        f"{LANDSCAPE}/sample_count.py",
        "if math.isnan(found.error) or not found.error <= limit:",
        "if math.isnan(found.error) or not found.error <= 3 * limit:",
        "multilevel",
    ),
    mutant(
        "no cells are computed to check predictions",
        f"{LANDSCAPE}/cell_prediction.py",
        "return missed <= MAX_MISS_SHARE * len(choice.checks)",
        "return missed >= 0",
        "adaptive_grid",
    ),
    mutant(
        "NaN is not done",
        f"{LANDSCAPE}/surface.py",
        "done.flat[places] = True",
        "done.flat[places] = np.isfinite(rows.reshape(len(cells), -1)).all(1)",
        "landscape",
    ),
    mutant(
        "persistence: the component of the lower minimum ends",
        f"{LANDSCAPE}/topology.py",
        "key=lambda root: (root not in merges, values[root], root)",
        "key=lambda root: (root not in merges, -values[root], root)",
        "topology",
    ),
    mutant(
        "folding without eps",
        f"{EVALUATION}/folding.py",
        "scale = torch.rsqrt(variance + eps)",
        "scale = torch.rsqrt(variance)",
        "folding",
    ),
    mutant(
        "folding loses the layer's bias",
        f"{EVALUATION}/folding.py",
        "shift = (-mean if bias is None else bias - mean) * scale",
        "shift = -mean * scale",
        "folding",
    ),
    mutant(
        "Lanczos without reorthogonalization",
        f"{HESSIAN}/lanczos.py",
        "        image = basis.rest(image)\n        beta",
        "        image = image - alphas[-1] * basis.last\n        beta",
        "hessian_estimators",
    ),
    mutant(
        "a small residual resolves a pair",
        f"{HESSIAN}/lanczos.py",
        "resolved &= whole | self.range.complete(values, width, self.top, self.bottom)",
        "resolved &= True",
        "hessian_estimators",
    ),
    mutant(
        "the Hessian of a sum",
        f"{HESSIAN}/loss_samples.py",
        "part = weighted_sum(losses) / self.total_weight",
        "part = weighted_sum(losses)",
        "hessian_hvp",
    ),
    mutant(
        "a trace's standard error is the samples' spread over n",
        f"{HESSIAN}/trace.py",
        "return spread / math.sqrt(count) * factor",
        "return spread / count * factor",
        "hessian_estimators",
    ),
    mutant(
        "a file's checksum is not looked at",
        f"{IO}/surface_files.py",
        'matches = checksum(there) == get_text(f, "sha256")',
        "matches = True",
        "h5_util",
    ),
    mutant(
        "a file is written in place",
        "lossatlas/io/atomic_write.py",
        "            else:\n                os.replace(temporary, path)",
        "            else:\n                path.write_bytes(temporary.read_bytes())",
        "atomic_write",
    ),
    mutant(
        "a request is not compared",
        f"{IO}/resume.py",
        "compare_requests(path, found, fresh, advice)\n    if others",
        "if others",
        "plot_surface",
    ),
    mutant(
        "the plan's batch size is not recorded",
        "lossatlas/jobs/sweep/loss_plan.py",
        '            "batch_size": evaluator.batch_size,\n',
        "",
        "plot_surface",
    ),
    mutant(
        "bad input ends like bad usage",
        "lossatlas/errors.py",
        "    code = INPUT\n",
        "    code = USAGE\n",
        "h5_util",
    ),
    mutant(
        "a lock of a process that runs is taken over",
        f"{IO}/lock.py",
        'return now == "unknown" or (bool(now) and now == record.get("started"))',
        'return now == "unknown"',
        "lock",
    ),
    mutant(
        "the last block is lost",
        "lossatlas/mpi/block_queue.py",
        "for k in range(0, len(cells), size)])",
        "for k in range(0, len(cells) - 1, size)])",
        "scheduler",
        "plot_surface",
    ),
    mutant(
        "a block is handed out twice",
        "lossatlas/mpi/block_queue.py",
        "k = heapq.heappop(self.ready)",
        "k = self.ready[0] if self.left > 1 else heapq.heappop(self.ready)",
        "scheduler",
    ),
    mutant(
        "part of the data in file order",
        "lossatlas/datasets/registry.py",
        "return np.random.RandomState(0).choice(count, count // data_split, replace=False)[:limit]",
        "return np.arange(count // data_split)[:limit]",
        "datasets",
        "plot_surface",
    ),
    mutant(
        "data are not normalized",
        "lossatlas/datasets/registry.py",
        "inputs = inputs.sub_(mean).div_(std)",
        "inputs = inputs.sub_(mean)",
        "datasets",
    ),
    mutant(
        "the prefix module. stays",
        "lossatlas/models/checkpoint.py",
        'state = {str(name).removeprefix("module."): _plain(value)',
        "state = {str(name): _plain(value)",
        "models",
    ),
    mutant(
        "no path is compared with the network",
        "lossatlas/jobs/sweep/loss_quantity.py",
        'differs = "" if in_place else reference.difference(comparable_evaluator(problem, plan, evaluator))',
        'differs = ""',
        "reference_check",
    ),
    mutant(
        "a network evaluated in place is not restored",
        f"{EVALUATION}/reference.py",
        "        handle.remove()\n        before.restore()\n",
        "        handle.remove()\n",
        "reference",
    ),
    mutant(
        "derivatives are not checked",
        f"{HESSIAN}/hvp.py",
        "        check_derivatives(self)\n",
        "        pass\n",
        "derivative_check",
    ),
    mutant(
        "the network at the other end is not compared",
        "lossatlas/jobs/sweep/api_loss_job.py",
        "        check_ends(problem, others, dir_type, states_differ=statistics_differ(net, others), batch=batch)\n",
        "        pass\n",
        "reference_check",
    ),
    mutant(
        "the difference of a function takes a field of its name from the second landscape",
        "lossatlas/results/comparison.py",
        "values = a.fields[field] - b.fields[other]\n",
        "values = a.fields[field] - b.fields[field]\n",
        "comparison",
    ),
    mutant(
        "a batch with as many positions as classes is read the other way",
        "lossatlas/data/losses.py",
        "    if second and last and logits.dim() > 2:\n",
        "    if False:\n",
        "data",
    ),
    mutant(
        "a file where the path is written is lost",
        "lossatlas/jobs/trajectory/run_files.py",
        "            keep_aside(file)\n",
        "            pass\n",
        "trajectories",
    ),
    mutant(
        "two recorders write one folder",
        "lossatlas/run_recorder.py",
        "        return not self._outdated\n",
        "        return True\n",
        "run_recorder",
    ),
    mutant(
        "ranks that --ranks started record a command that nobody typed",
        "lossatlas/programs.py",
        "    return Started.typed or f",
        "    return f",
        "local_ranks",
    ),
    mutant(
        "a launcher of another MPI library is used",
        "lossatlas/mpi/local_ranks.py",
        'return f"it belongs to {family}" if family else ""',
        'return ""',
        "local_ranks",
    ),
    mutant(
        "products with the Jacobian are believed",
        f"{HESSIAN}/gauss_newton.py",
        "return not size or not math.isfinite(size) or abs(off) <= LARGEST_DISAGREEMENT * size",
        "return True",
        "gauss_newton",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=2, help="copies that are tested at a time")
    parser.add_argument("--only", nargs="*", help="names of faults")
    args = parser.parse_args(argv)
    chosen = [each for each in MUTANTS if not args.only or each.name in args.only]
    for each in chosen:
        if (found := (ROOT / each.file).read_text().count(each.old)) != 1:
            print(f"error: '{each.name}': its text is {found} times in {each.file}, not once: correct tests/mutants.py")
            return 2
    print("name | found by | seconds", flush=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        found_by = list(pool.map(tried, chosen))
    count = sum(map(bool, found_by))
    print(f"{count} of {len(chosen)} mutants are found")
    return 0 if len(chosen) - count <= len(MUTANTS) - LEAST else 1


def tried(each: Mutant) -> str:
    """The first test that fails with this fault; '' for none."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*OTHERS))
        file = copy / each.file
        file.write_text(file.read_text().replace(each.old, each.new))
        found = first_failure(copy, each.tests)
    print(f"{each.name} | {found or 'NOTHING'} | {time.monotonic() - began:.0f}", flush=True)
    return found


def first_failure(copy: Path, tests: Sequence[str]) -> str:
    """The name of the first test that fails in a copy of the project."""
    files = [f"tests/test_{name}.py" for name in tests]
    options = ["-x", "-q", "-m", "not full", "--every_case", "-n", "0", "-p", "no:cacheprovider", "--tb=no"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return "a test without end"
    if done.returncode == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if failed is None:
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return failed[1].removeprefix("tests/")


if __name__ == "__main__":
    sys.exit(main())
