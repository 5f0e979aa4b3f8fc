"""Small networks and data that the tests share."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.testing  # numpy 1.26 starts lscpu when this is imported, which is no test's business
import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
MPIRUN: Path | str | None = Path(sys.executable).parent / "mpirun"
if not Path(MPIRUN).exists():
    MPIRUN = shutil.which("mpirun")

# Every process of the suite gets one thread: pytest runs several, and each test compares values bit for bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

# Markers of pyproject.toml that `make quick` leaves out, and the programs without which their tests are skipped.
APART = {"browser", "mpi", "pictures", "commands", "slow", "full"}
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
PROGRAMS = {
    "mpi": (MPIRUN, "no mpirun: pip install mpich"),
    "browser": (CHROMIUM, "no browser: apt-get install chromium"),
}
NODE = shutil.which("node")
LIGHT = {NODE, str(ROOT / "lossatlas" / "io" / "hdf5_probe.py")}  # start within a tenth of a second

collect_ignore = ["mpi", "wheel"]  # on several ranks, see test_mpi.py; with the installed package, see test_wheel.py

# A shell that starts the suite in the background has SIGINT ignored, nohup SIGHUP, and every process that is started
# from here would inherit that. A handler of Python's becomes the default in a new program, while this one goes on as
# before.
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every_case", action="store_true", help="run the cases, too, that the marker `few` leaves out")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test that takes the browser, and skip those whose program is not on this machine.

    Of the cases of a test with the marker `few`, as many as it says, evenly spaced, are not `full`.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if config.option.every_case:
            break
        if item.get_closest_marker("few") and not item.get_closest_marker("full"):
            cases.setdefault(item.nodeid.split("[")[0], []).append(item)
    for same in cases.values():
        mark = same[0].get_closest_marker("few")
        assert mark is not None
        kept = {round(k) for k in np.linspace(0, len(same) - 1, mark.args[0])}
        for number, item in enumerate(same):
            if number not in kept:
                item.add_marker("full")
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        for name, (program, reason) in PROGRAMS.items():
            if program is None and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


class RefusedProcess(subprocess.Popen):  # type: ignore[type-arg]
    """Refuses to start programs other than node and the reader of damaged files, which start in a moment."""

    def __init__(self, args: Sequence[object], *more: Any, **options: Any) -> None:
        if args[0] != NODE and not any(str(arg).endswith("hdf5_probe.py") for arg in args[1:3]):
            raise AssertionError(f"this test starts {args}: mark it by one of {sorted(APART)}")
        super().__init__(args, *more, **options)


@pytest.fixture(autouse=True)
def no_process_in_quick_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep interpreters and launchers out of the tests of `make quick`."""
    if not APART & {mark.name for mark in request.node.iter_markers()}:
        monkeypatch.setattr(subprocess, "Popen", RefusedProcess)


@pytest.fixture(scope="session", autouse=True)
def coarse_figures() -> Iterator[None]:
    """Draw figures in this process at 50 dots per inch unless a test gives --dpi; nothing else is changed."""
    style = importlib.import_module("lossatlas.figures.matplotlib_style")
    usual, style.DPI = style.DPI, 50
    yield
    style.DPI = usual


class ConvNet(nn.Module):
    """Convolution, BatchNorm with statistics that are not trivial, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1, stride=2)
        self.bn = nn.BatchNorm2d(6)
        self.linear = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


class TiedNet(nn.Module):
    """An autoencoder whose decoder is the encoder's own weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(784, 20)
        self.inner = nn.Linear(20, 20, bias=False)
        self.again = nn.Linear(20, 20, bias=False)
        self.again.weight = self.inner.weight
        self.last = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x.flatten(1)))
        return self.last(torch.tanh(self.again(torch.tanh(self.inner(x)))))


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = make()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return net.eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Start every test with one thread: a command that an earlier test called sets more, which would share its core."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def networks() -> dict[str, nn.Module]:
    from lossatlas.models import build

    return {
        "mlp": seeded(lambda: build("mlp", (1, 28, 28))),
        "conv": seeded(ConvNet),
        "tied": seeded(TiedNet),
    }


@pytest.fixture(scope="session")
def mini():
    from lossatlas.datasets.registry import load

    return load("fashion_mnist_mini", "train", limit=50)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A trained perceptron, as a file."""
    return write_checkpoint(tmp_path / "net.safetensors", "mlp")


@pytest.fixture(scope="session")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for tests that leave it as it is."""
    return write_checkpoint(tmp_path_factory.mktemp("perceptron") / "net.safetensors", "mlp")


def statistics_row(
    losses: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    penalty: float = 0,
    clamped: float = 0,
    metrics: Sequence[float] = (),
) -> np.ndarray:
    """A worker's report of samples with these losses and weights: see `landscape.statistics`. metrics: their sums."""
    loss = np.asarray(losses, dtype=np.float64)
    w = np.ones_like(loss) if weights is None else np.asarray(weights, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = [(w**p * loss**k).sum() for p, top in ((1, 2), (2, 2), (4, 4)) for k in range(top + 1)]
    return np.array([len(loss), *sums, penalty, clamped, 0.0, *metrics])


def write_noise(path: Path, count: int) -> str:
    """Random images and labels as a user's own tensors."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(count, 1, 28, 28)).astype(np.float32)
    np.savez(path, inputs=inputs, targets=rng.integers(0, 10, count))
    return str(path)


def write_checkpoint(path: Path, model: str, seed: int = 0) -> Path:
    from lossatlas.models import build, save_state

    save_state(path, seeded(lambda: build(model, (1, 28, 28)), seed))
    return path


def surface_command(checkpoint: Path, surface: Path, *more: str, model: str = "mlp", limit: int = 40) -> list[str]:
    return [
        "--model",
        model,
        *"--dataset fashion_mnist_mini --limit".split(),
        str(limit),
        "--model_file",
        str(checkpoint),
        "--surf_file",
        str(surface),
        *"--threads 1 --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn".split(),
        *more,
    ]


def cut(file: Path, cells: Sequence[int]) -> None:
    """The file as a killed run would leave it: these cells alone."""
    from dataclasses import replace

    from lossatlas.io import read_surface, write_surface

    surface = read_surface(file)
    done = np.zeros(surface.grid.size, bool)
    done[cells] = True
    kept = {
        split: {name: np.where(done.reshape(surface.grid.shape), array, np.nan) for name, array in arrays.items()}
        for split, arrays in surface.statistics.items()
    }
    samples = {
        split: [own if done[k] else {} for k, own in enumerate(cells_of)] for split, cells_of in surface.samples.items()
    }
    write_surface(file, replace(surface, done=done.reshape(surface.grid.shape), statistics=kept, samples=samples))


def python(*args: object, launcher: Sequence[object] = (), timeout: float = 1500) -> subprocess.CompletedProcess[str]:
    """Run a command of the project as a user would."""
    command = [*map(str, launcher), sys.executable, *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


LAST = r"5\."  # the last layer of the perceptron: few enough parameters for an explicit Hessian


SOFTWARE = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-sandbox"]


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium with WebGL by software; one for all tests, as Playwright wants it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *SOFTWARE])
        yield opened
        opened.close()


@contextmanager
def page_opener(browser, pages, size=(1280, 900)):
    """Give a function that opens a page of a folder, by default without motion of its own.

    In the end nothing was fetched, and nothing complained.
    """
    contexts, wrong = [], []

    def open_page(name, fragment="", size=size, *, script="", motion="reduce", **more):
        about = {"accept_downloads": True, "reduced_motion": motion, **more}
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **about)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        fine = ("file:", "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(fine) else wrong.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(f"file://{pages / name}.html{fragment}")
        wait(page, "window.lossatlas && lossatlas.frameTime !== undefined")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def wait(page, condition, seconds=120):
    """Playwright's own way needs `eval`, which the page forbids."""
    for _ in range(20 * seconds):
        if page.evaluate(f"Boolean({condition})"):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not within {seconds} s: {condition}")
