"""A user's own network, data and loss from the command line, in a folder whose files have the names of ours."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import MPIRUN, ROOT, python, surface_command, write_checkpoint
from oracles import explicit_hessian, loss_at, mean_cross_entropy

from lossatlas.commands import hessian_spectrum, plot_hessian_eigen, plot_surface, plot_trajectory, train
from lossatlas.errors import BadInput, BadUsage
from lossatlas.io import read_directions, read_findings, read_surface
from lossatlas.models import build, read_state
from lossatlas.parameter_space import as_point
from lossatlas.user_code import UserFunction

OWN = """
import torch
from torch import nn
import models, options, surface, dataloader, errors          # the user's own, not ours
from models import Block

class ViT(nn.Module):
    def __init__(self, width=8, depth=1):
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.position = nn.Parameter(torch.zeros(9, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm([9, width])
        self.head = nn.Linear(width, 3)
    def forward(self, x):
        x = x.unfold(2, 2, 2).unfold(3, 2, 2).reshape(len(x), 9, 4)
        x = self.embed(x) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))

def make(width=8):
    assert options.MINE and errors.MINE and surface.MINE
    import factories                                          # lazily, while the factory runs
    assert factories.MINE
    torch.manual_seed(0)
    return ViT(width)

def data(split):
    return dataloader.samples(split)

def smooth(output, target, reduction="mean"):
    return nn.functional.cross_entropy(output, target, label_smoothing=0.1, reduction=reduction)

def smooth_with_decay(model, batch):
    from lossatlas import Losses
    output = model(batch[0])
    loss = nn.functional.cross_entropy(output, batch[1], label_smoothing=0.1, reduction="none")
    penalty = 1e-3 * sum((p ** 2).sum() for p in model.parameters())
    return Losses(loss, metrics={"margin": output.amax(1)}, penalty=penalty)

def only_the_mean(output, target):
    return nn.functional.cross_entropy(output, target)

def random_net():
    class Noisy(ViT):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x), 0.5)
    return Noisy()

def augmented(split):
    class Images(torch.utils.data.Dataset):
        def __len__(self): return 8
        def __getitem__(self, k): return torch.randn(1, 6, 6), k % 3
    return Images()

def tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.a, self.b = nn.Flatten(), nn.Linear(36, 36, bias=False), nn.Linear(36, 36)
            self.b.weight = self.a.weight
            self.noise = torch.randn(36)           # no part of the state: the same on every rank and in every run
        def forward(self, x):
            return self.b(torch.tanh(self.a(self.flat(x)) + self.noise))
    return Tied()

def not_a_net():
    return 3

def failing():
    raise RuntimeError("no weights here")
"""
MODELS = """
import torch
from torch import nn
MINE = True
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))
"""
LOADER = """
import torch
MINE = True
def samples(split):
    g = torch.Generator().manual_seed(int(split == "test"))
    x = torch.randn(60, 1, 6, 6, generator=g)
    return torch.utils.data.TensorDataset(x, (x.mean((1, 2, 3)) * 10).long().clamp(0, 2))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's folder, and the current one."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "dataloader.py").write_text(LOADER)
    for name in ("options", "surface", "errors", "factories", "losses"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    monkeypatch.chdir(tmp_path)
    net = UserFunction.parse("model", "own.py:make")()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3, generator=torch.Generator().manual_seed(p.numel()))
    torch.save({"epoch": 3, "model_state_dict": {f"_orig_mod.{k}": v for k, v in net.state_dict().items()}}, "net.ckpt")
    return tmp_path


LINE = "--threads 1 --model own.py:make --model_file net.ckpt --dataset own.py:data --dir_file d.h5".split()
FILTER = ["--xnorm", "filter", "--xignore", "biasbn"]


def problem(home):
    """The network as it is in its checkpoint, and its data."""
    net = UserFunction.parse("model", "own.py:make")()
    state = torch.load("net.ckpt", weights_only=True)["model_state_dict"]
    net.load_state_dict({k.removeprefix("_orig_mod."): v for k, v in state.items()})
    x, y = UserFunction.parse("dataset", "own.py:data")(split="train").tensors
    return net.double().eval(), x.double(), y


def naive(home, loss, grid):
    """The mean loss over the data along the direction in the file, in float64, by a plain loop."""
    net, x, y = problem(home)
    direction = as_point(read_directions("d.h5").x, net, "weights", "it")
    return np.array([loss_at(net, lambda moved: loss(moved, x, y), [(a, direction)]) for a in grid])


LOSSES = {
    "crossentropy": lambda net, x, y: F.cross_entropy(net(x), y),
    "own.py:smooth": lambda net, x, y: F.cross_entropy(net(x), y, label_smoothing=0.1),
    "own.py:smooth_with_decay": lambda net, x, y: (
        F.cross_entropy(net(x), y, label_smoothing=0.1) + 1e-3 * sum((p**2).sum() for p in net.parameters())
    ),
    "own.py:only_the_mean": lambda net, x, y: F.cross_entropy(net(x), y),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_surface_is_that_of_a_naive_loop(home, loss):
    assert plot_surface.main([*LINE, *FILTER, "--loss_name", loss, "--x=-1:1:5", "--surf_file", "s.h5", "--plot"]) == 0
    found = read_surface("s.h5")
    np.testing.assert_allclose(found.fields["train_loss"], naive(home, LOSSES[loss], found.grid.x), rtol=1e-5)
    assert (home / "s.h5_1d_loss_acc.png").exists()
    if loss.endswith("decay"):
        assert "train_margin" in found.fields
    assert set(found.request) >= {"model", "model_code", "checkpoint"}


def test_normalization_layers_do_not_move_whatever_their_shape(home):
    assert plot_surface.main([*LINE, *FILTER, "--x=-1:1:2", "--surf_file", "s.h5"]) == 0
    net, _, _ = problem(home)
    direction = as_point(read_directions("d.h5").x, net, "weights", "it")
    assert net.norm.weight.shape == (9, 8)
    moved = {name for name, d in direction.items() if d.abs().max() > 0}
    assert moved == {"embed.weight", "position", "blocks.0.qkv.weight", "blocks.0.out.weight", "head.weight"}


def test_the_top_eigenvalue_is_that_of_the_dense_hessian(home):
    assert (
        hessian_spectrum.main(
            [*LINE[:-2], "--top", "2", "--trace_most", "20", "--steps", "10", "--spectrum_file", "h.h5"]
        )
        == 0
    )
    net, x, y = problem(home)
    exact = torch.linalg.eigvalsh(explicit_hessian(net, mean_cross_entropy(x, y)))
    np.testing.assert_allclose(read_findings("h.h5").arrays["eigenvalues"], exact[[-1, -2]], rtol=1e-4)
    assert plot_hessian_eigen.main([*LINE, "--x=0:0.1:2", "--surf_file", "e.h5"]) == 0
    np.testing.assert_allclose(read_surface("e.h5").fields["max_eig"][0], exact[-1], rtol=1e-4)


@pytest.mark.mpi
def test_ranks_give_the_same_bits_and_changed_code_is_named(home, capsys):
    def line(file):
        more = "--batch_size 20 --threads 1 --x=-1:1:9 --loss_name own.py:smooth --surf_file".split()
        return [*LINE, *FILTER, *more, file]

    command = [MPIRUN, "-n", "2", sys.executable, str(ROOT / "plot_surface.py"), "--mpi", *line("many.h5")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert result.returncode == 0, result.stderr
    assert plot_surface.main(line("one.h5")) == 0
    one, many = (read_surface(file).fields["train_loss"] for file in ("one.h5", "many.h5"))
    assert np.array_equal(one, many)
    changed = (home / "own.py").read_text().replace("label_smoothing=0.1", "label_smoothing=0.2")
    (home / "own.py").write_text(changed)
    assert plot_surface.main(line("many.h5")) == 3
    assert "was made with other code of the model" in capsys.readouterr().err


BAD = [
    (["--model", "nowhere.py:make"], 3, "no file"),
    (["--model", "own.py:nothing"], 3, "own.py has no 'nothing': there are ViT, make, data"),
    (["--model", "own.py:failing"], 3, "own.py, line 72: RuntimeError: no weights here"),
    (["--model", "own.py:not_a_net"], 3, "gives int, not a torch.nn.Module"),
    (["--model", "own.py:make", "--model_args", "size=3"], 2, "takes no 'size'; it takes width"),
    (
        ["--model", "own.py:make", "--model_args", "width=16"],
        3,
        "'position' has shape (9, 8), the model expects (9, 16)",
    ),
    (["--model", "broken.py:make"], 3, "broken.py cannot be imported: line 2: SyntaxError"),
    (["--model", "lacking.py:make"], 3, "lacking.py, line 1: ModuleNotFoundError: No module named 'not_there'"),
    (["--model", "no.such.package:make"], 3, "there is no module 'no'"),
    (["--model", "own.py:random_net"], 3, "differs when it is computed twice"),
    (["--dataset", "own.py:augmented"], 3, "drawn or augmented at random"),
    (["--dataset", "own.py:not_a_net"], 3, "data have to be (inputs, targets)"),
    (["--loss_name", "own.py:only_the_mean", "--tolerance", "0.1"], 2, "gives the mean of a batch alone"),
    (["--loss_name", "own"], 2, "invalid choice: 'own'"),
]


@pytest.mark.parametrize(("more", "code", "message"), BAD, ids=[" ".join(more[-2:]) for more, _, _ in BAD])
def test_what_fails_is_said_in_one_line(home, capsys, more, code, message):
    (home / "broken.py").write_text("x = 1\ndef make(:\n")
    (home / "lacking.py").write_text("import not_there\n")
    try:
        found = plot_surface.main([*LINE, "--x=-1:1:3", "--surf_file", "s.h5", *more])
    except SystemExit as error:
        found = error.code
    assert found == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (home / "s.h5").exists()


def test_ours_are_back_afterwards_and_theirs_stay_theirs(home):
    from lossatlas import models
    from lossatlas.commands import options

    net = UserFunction.parse("model", "own.py:make", ["width=4"])()
    assert net.embed.out_features == 4
    assert sys.modules["lossatlas.models"] is models
    assert sys.modules["lossatlas.commands.options"] is options
    assert not hasattr(sys.modules.get("models"), "MINE")  # a name of the clone too
    assert not hasattr(models, "MINE")


def test_a_factory_may_give_a_trained_network(home):
    assert plot_surface.main(["--model", "own.py:make", "--dataset", "own.py:data", "--x=0:1:2", "--y=0:1:2"]) == 0
    assert list(home.glob("own_make_weights*[[]0.0,1.0,2]x[[]0.0,1.0,2].h5"))


def test_a_trajectory_of_ones_own(home):
    net = UserFunction.parse("model", "own.py:make")()
    for epoch in range(4):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(epoch)))
        torch.save({"model": net.state_dict()}, f"model_{epoch}.pt")
    assert (
        plot_trajectory.main(["--model", "own.py:make", "--model_folder", ".", "--suffix", ".pt", "--max_epoch", "3"])
        == 0
    )
    assert (home / "PCA_weights_save_epoch=1" / "directions.h5_proj_cos.h5").exists()


@pytest.mark.parametrize("text", ["own.py:", ":make", "own.py:a-b"])
def test_names_that_are_none(text):
    with pytest.raises(BadUsage, match="give path/to/file"):
        UserFunction.parse("model", text)


def test_arguments_are_read_as_python_writes_them():
    found = UserFunction.parse("model", "a.py:b", ["n=3", "x=1e-3", "names=['a']", "flag=True", "text=hello"]).arguments
    assert found == {"n": 3, "x": 1e-3, "names": ["a"], "flag": True, "text": "hello"}
    with pytest.raises(BadUsage, match="give key=value"):
        UserFunction.parse("model", "a.py:b", ["3"])


def test_a_function_that_lacks_a_process_group_is_told_the_option(tmp_path):
    (tmp_path / "own.py").write_text("import torch.distributed as dist\ndef make(): return dist.get_world_size()")
    with pytest.raises(BadInput, match=r"surface(\.py)? --ranks_per_model N\)$"):
        build(UserFunction.parse("model", f"{tmp_path}/own.py:make"))


def test_objects_that_can_be_called_are_listed_too(tmp_path):
    lines = ["from collections.abc import Sequence", "from functools import partial", "from math import sqrt"]
    lines += ["from typing import Any, Callable", "half = partial(pow, 2)", "def f(): ..."]
    (tmp_path / "own.py").write_text("\n".join(lines))
    with pytest.raises(BadInput, match=r"has no 'nope': there are half, f$"):
        UserFunction.parse("loss_name", f"{tmp_path}/own.py:nope").function  # noqa: B018


def test_true_and_false_reach_parameters_that_are_switches(tmp_path):
    code = "def f(a: bool, b=True, c=None, d: 'bool' = 1): return a, b, c, d\n"
    (tmp_path / "own.py").write_text(code)
    name = f"{tmp_path}/own.py:f"
    call = UserFunction.parse("dataset", name, ["a=false", "b=no", "c=false", "d=True"])
    assert call() == (False, False, "false", True)
    assert str(call) == "own.py:f(a='false', b='no', c='false', d=True)"  # records stay
    with pytest.raises(BadUsage, match="dataset_args='a=maybe': 'maybe' is neither true nor false"):
        UserFunction.parse("dataset", name, ["a=maybe"])()


def test_a_module_that_is_installed(tmp_path):
    assert UserFunction.parse("model", "torch.nn:Linear", ["in_features=2", "out_features=3"])().out_features == 3
    with pytest.raises(BadInput, match="there is no module"):
        UserFunction.parse("model", "torch.nothing:Linear")()


def test_tied_weights_and_tensors_outside_of_the_state(home):
    line = ["--model", "own.py:tied", "--dataset", "own.py:data", "--x=-1:1:3", *FILTER, "--dir_file", "t.h5"]
    assert plot_surface.main([*line, "--surf_file", "one.h5"]) == 0
    assert len(read_directions("t.h5").x) == 2
    assert plot_surface.main([*line, "--surf_file", "two.h5"]) == 0
    one, two = (read_surface(file).fields["train_loss"] for file in ("one.h5", "two.h5"))
    assert np.array_equal(one, two)


def test_files_in_two_folders_have_helpers_of_their_own(home):
    for folder, scale in (("a", 1), ("b", 100)):
        (home / folder).mkdir()
        (home / folder / "utils.py").write_text(f"SCALE = {scale}\n")
        (home / folder / "it.py").write_text("import utils\ndef scale():\n    import utils\n    return utils.SCALE\n")
    assert UserFunction.parse("model", "a/it.py:scale")() == 1
    assert UserFunction.parse("model", "b/it.py:scale")() == 100
    assert UserFunction.parse("model", "a/it.py:scale")() == 1


@pytest.mark.commands
def test_a_loss_whose_import_has_changed_is_another_loss(tmp_path):
    """Its own file is the same; what it gives for some samples is not."""
    checkpoint = write_checkpoint(tmp_path / "net.safetensors", "mlp")
    (tmp_path / "helper.py").write_text("FACTOR = 1.0\n")
    (tmp_path / "own_loss.py").write_text(
        "import torch.nn.functional as F\nfrom helper import FACTOR\n"
        "def loss(output, target):\n    return FACTOR * F.cross_entropy(output, target, reduction='none')\n"
    )
    command = surface_command(
        checkpoint, tmp_path / "s.h5", "--x=-1:1:3", "--loss_name", f"{tmp_path / 'own_loss.py'}:loss"
    )
    assert plot_surface.main(command) == 0
    assert plot_surface.main(command) == 0
    (tmp_path / "helper.py").write_text("FACTOR = 20.0\n")  # of another length, for Python's cache of bytecode
    again = python("plot_surface.py", *command)  # this process has imported the other one
    assert again.returncode == 3
    assert "loss_of_some_samples" in again.stderr


@pytest.mark.commands
def test_a_function_that_changes_the_current_folder_moves_no_output(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moves.py").write_text(f"""
import os, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)
    def forward(self, x):
        os.chdir({str(tmp_path / "elsewhere")!r})
        return self.layer(x.flatten(1))
def make():
    os.chdir({str(tmp_path / "elsewhere")!r})
    torch.manual_seed(0)
    return Net()
""")
    command = [
        *f"--model {tmp_path / 'moves.py'}:make --dataset fashion_mnist_mini --limit 20 --x=-1:1:3".split(),
        *"--surf_file s.h5 --dir_file d.h5".split(),
    ]
    result = subprocess.run(
        [sys.executable, str(ROOT / "plot_surface.py"), *command],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["d.h5", "s.h5", "s.h5.log"]
    assert not list((tmp_path / "elsewhere").iterdir())


SEEDED = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.mask = torch.rand(784)  # no part of the state

    def forward(self, x):
        return self.layer(self.mask * x.flatten(1))

def make():
    return Net()
"""


def test_the_seed_of_a_training_reaches_the_weights_and_nothing_else(tmp_path):
    """Tensors outside the state have to be the same when a surface is computed, which knows no seed of the training."""
    (tmp_path / "net.py").write_text(SEEDED)
    function = UserFunction.parse("model", f"{tmp_path / 'net.py'}:make")
    zero, one, two, again = (build(function, seed=seed) for seed in (0, 1, 2, 1))
    assert torch.equal(one.layer.weight, again.layer.weight)
    assert not torch.equal(one.layer.weight, two.layer.weight)
    assert torch.equal(build(function).layer.weight, zero.layer.weight)
    assert all(torch.equal(zero.mask, net.mask) for net in (one, two))
    files = []
    for seed in ("1", "2"):
        files.append(tmp_path / f"{seed}.safetensors")
        line = ["--model", f"{tmp_path / 'net.py'}:make", "--seed", seed, "--out", str(files[-1])]
        assert train.main([*line, *"--dataset fashion_mnist_mini --limit 20 --epochs 1 --lr 1e-6".split()]) == 0
    states = [read_state(file)["layer.weight"] for file in files]
    torch.testing.assert_close(states[0], one.layer.weight.detach(), atol=1e-3, rtol=0)
    torch.testing.assert_close(states[1], two.layer.weight.detach(), atol=1e-3, rtol=0)


KINDS = """
import torch
from torch import nn
import torch.nn.functional as F

class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
        self.weights = [self.a.weight, self.b.weight]
    def forward(self, x):
        return F.linear(torch.tanh(F.linear(x, self.weights[0], self.a.bias)), self.weights[1], self.b.bias)

class Adapter(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
        self.down, self.up, self.merged = nn.Parameter(torch.randn(1, 4)), nn.Parameter(torch.randn(3, 1)), False
    def train(self, mode=True):
        super().train(mode)
        if self.merged == mode:
            self.weight.data += (-1 if mode else 1) * self.up.data @ self.down.data
            self.merged = not mode
        return self
    def forward(self, x):
        return F.linear(x, self.weight if self.merged else self.weight + self.up @ self.down, self.bias)

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
    def forward(self, x):
        return self.b(torch.tanh(self.norm(self.a(x))))

def data(split):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 4, generator=generator), torch.randint(0, 3, (40,), generator=generator)
"""


@pytest.fixture
def kinds(tmp_path):
    """A file with networks of unusual kinds, and checkpoints of them as they are in training mode."""
    (tmp_path / "kinds.py").write_text(KINDS)
    names: dict = {}
    exec(compile(KINDS, "kinds.py", "exec"), names)
    for name in ("Listed", "Adapter", "Normed"):
        for seed in (0, 1):
            torch.manual_seed(seed)
            net = names[name]()
            if name == "Normed":
                net.norm.running_mean.normal_()
                net.norm.running_var.uniform_(0.5, 2)
            torch.save(net.state_dict(), tmp_path / f"{name}{seed}.pt")
    return tmp_path, names


def own_losses(names, kind, file, points):
    """Mean losses of the module itself at states by name."""
    inputs, targets = names["data"]("train")
    found = []
    for point in points:
        net = names[kind]()
        net.load_state_dict({**torch.load(file), **point})
        found.append(float(F.cross_entropy(net.eval()(inputs).double(), targets)))
    return found


@pytest.mark.parametrize("kind", ["Listed", "Adapter"])
def test_commands_evaluate_the_network_itself(kinds, capsys, kind):
    """Weights in a list stayed where they were; a merged adapter was evaluated without its adapter."""
    folder, names = kinds
    file, surface = folder / f"{kind}0.pt", folder / "s.h5"
    line = f"--model {folder}/kinds.py:{kind} --dataset {folder}/kinds.py:data --model_file {file}"
    grid = ["--x=-1:1:3", "--xnorm", "filter", "--dir_file", str(folder / "d.h5")]
    assert plot_surface.main([*line.split(), *grid, "--surf_file", str(surface)]) == 0
    assert ("the network itself is moved" in capsys.readouterr().out) == (kind == "Listed")
    net = names[kind]()
    dx = as_point(read_directions(folder / "d.h5").x, net, "weights", "x")
    state = torch.load(file)
    points = [{name: state[name] + a * dx[name] for name in dx} for a in (-1, 0, 1)]
    np.testing.assert_allclose(
        read_surface(surface).fields["train_loss"], own_losses(names, kind, file, points), rtol=1e-5
    )


def test_a_line_between_networks_ends_at_both_with_their_statistics(kinds, capsys):
    folder, names = kinds
    ends = [folder / "Normed0.pt", folder / "Normed1.pt"]
    line = f"--model {folder}/kinds.py:Normed --dataset {folder}/kinds.py:data --model_file {ends[0]}"
    expected = [own_losses(names, "Normed", end, [{}])[0] for end in ends]
    other = ["--model_file2", str(ends[1]), "--x=0:1:3"]
    assert plot_surface.main([*line.split(), *other, "--surf_file", str(folder / "s.h5")]) == 0
    assert "differ in BatchNorm statistics" in capsys.readouterr().out
    np.testing.assert_allclose(read_surface(folder / "s.h5").fields["train_loss"][[0, -1]], expected, rtol=1e-5)
    assert (
        plot_surface.main([*line.split(), "--x=0:1:3", "--surf_file", str(folder / "w.h5"), "--dir_type", "weights"])
        == 0
    )
    assert abs(read_surface(folder / "w.h5").fields["train_loss"][-1] - expected[1]) > 1e-3


def test_an_adapter_without_a_checkpoint_is_evaluated_as_its_factory_gives_it(kinds):
    """It was merged by eval() and loaded into an unmerged one: its adapter counted twice."""
    folder, names = kinds
    (folder / "made.py").write_text(
        "from kinds import Adapter, data\n\ndef fresh():\n    return Adapter()\n\n"
        "def merged():\n    return Adapter().eval()\n"
    )
    for name in ("fresh", "merged"):
        line = f"--model {folder}/made.py:{name} --dataset {folder}/made.py:data --x=-1:1:3"
        files = ["--dir_file", str(folder / f"{name}_d.h5"), "--surf_file", str(folder / f"{name}.h5")]
        assert plot_surface.main([*line.split(), *files]) == 0
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = names["Adapter"]()
        net = net.eval() if name == "merged" else net
        dx, true = as_point(read_directions(folder / f"{name}_d.h5").x, net, "weights", "x"), []
        inputs, targets = names["data"]("train")
        before = {key: value.clone() for key, value in net.state_dict().items()}
        for a in (-1, 0, 1):
            for key, p in net.named_parameters():
                p.data.copy_(before[key] + a * dx[key])
            true.append(float(F.cross_entropy(net(inputs).double(), targets)))
        np.testing.assert_allclose(read_surface(folder / f"{name}.h5").fields["train_loss"], true, rtol=1e-5)
