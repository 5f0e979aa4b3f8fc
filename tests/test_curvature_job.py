"""The driver of commands that compute with the Hessian at one point, with a quantity of this test."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossatlas.commands import sharpness
from lossatlas.errors import BadInput
from lossatlas.io import Findings, read_findings
from lossatlas.io.progress import Log
from lossatlas.jobs.curvature.curvature_quantity import LoadedJob
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian
from lossatlas.jobs.curvature.hessian_job import FindingsOutput
from lossatlas.jobs.curvature.named_curvature_job import CurvatureCommand, run_curvature_job
from lossatlas.models import load_network
from lossatlas.mpi.communicator import World


@dataclass(frozen=True)
class LossQuantity:
    """The loss at the checkpoint. calls: what the driver has called."""

    seed: int = 0
    kind: str = "spectrum"
    calls: list[str] = field(default_factory=list)

    def check_files(self, path: Path) -> None:
        self.calls.append("check_files")
        if path.with_suffix(".taken").exists():
            raise BadInput("this name is taken")

    def new_findings(self, fresh: Findings) -> Findings:
        return replace(fresh, request={**fresh.request, "asked": "loss"})

    def say_cost(self, job: LoadedJob, path: Path) -> None:
        self.calls.append("say_cost")

    def compute(self, operator: DistributedHessian, output: FindingsOutput) -> None:
        self.calls.append("compute")
        if "value" not in output.findings.arrays:
            self.calls.append("loss_at")
            output.add({"value": operator.loss_at(None)})

    def result(self, operator: DistributedHessian, findings: Findings, net: nn.Module) -> float:
        return float(findings.arrays["value"])


@pytest.fixture
def run(tmp_path, checkpoint) -> Callable[..., tuple[list[str], list[float]]]:
    """Runs a command with this quantity: returns what was called, and the results that were reported."""

    def run_with(*more: str, **changes) -> tuple[list[str], list[float]]:
        line = "--model mlp --dataset fashion_mnist_mini --limit 50 --threads 1 --model_file".split()
        args = sharpness.parser().parse_args([*line, str(checkpoint), *more])
        quantity, reported = LossQuantity(), []
        command: CurvatureCommand[float] = replace(
            sharpness.sharpness_command(args, ["sharpness", *line]),
            quantity=quantity,
            file=str(tmp_path / "out.h5"),
            report=lambda path, value: reported.append(value),
            draw=lambda path: quantity.calls.append(f"draw {path.name}"),
        )
        command = replace(command, **changes)
        assert run_curvature_job(World(), lambda: command, Log(command.file)) == 0
        return quantity.calls, reported

    return run_with


def test_the_result_of_the_operator_is_saved_reported_and_continued(run, tmp_path, checkpoint, mini):
    calls, reported = run()
    assert calls == ["check_files", "compute", "loss_at"]
    net = load_network("mlp", checkpoint, (1, 28, 28)).eval()
    with torch.no_grad():
        assert reported == [pytest.approx(float(F.cross_entropy(net(mini.inputs), mini.targets)), rel=1e-6)]
    found = read_findings(tmp_path / "out.h5")
    assert float(found.arrays["value"]) == reported[0]
    assert found.request["asked"] == "loss"
    assert run() == (["check_files", "compute"], reported)  # from the file
    log = (tmp_path / "out.h5.log").read_text()
    assert log.count("started: ") == log.count("complete") == 2


@pytest.mark.filterwarnings("ignore:the file that was there")
def test_a_forced_start_keeps_the_earlier_file_under_another_name(run, tmp_path):
    run()
    calls, _ = run("--force")
    assert "loss_at" in calls
    assert len(list(tmp_path.glob("out*.h5"))) == 2


def test_a_complete_file_is_drawn_where_it_is_asked_for(run, capsys):
    def impossible(path: Path) -> None:
        raise BadInput("there is nothing to see")

    calls, _ = run("--plot")
    assert calls[-1] == "draw out.h5"
    _, reported = run("--plot", draw=impossible)
    assert len(reported) == 1
    assert "note: not drawn: there is nothing to see" in capsys.readouterr().out


def test_a_dry_run_prints_the_request_and_writes_nothing(run, tmp_path, capsys):
    calls, reported = run("--dry_run")
    assert (calls, reported) == (["check_files", "say_cost"], [])
    printed = capsys.readouterr().out
    assert "asked = loss\n" in printed
    assert f"spectrum file = {tmp_path / 'out.h5'}\n" in printed
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_name_that_is_taken_is_refused_before_anything_is_read(run, tmp_path):
    (tmp_path / "out.taken").touch()
    with pytest.raises(BadInput, match="this name is taken"):
        run()
    assert not (tmp_path / "out.h5").exists()


def test_the_file_is_beside_the_checkpoint_where_none_is_named(run, checkpoint):
    beside = checkpoint.with_name(f"{checkpoint.name}_spectrum.h5")
    run("--dry_run", file=None)
    assert not beside.exists()
    run(file=None)
    assert "value" in read_findings(beside).arrays
