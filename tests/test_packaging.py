"""The files that say what to install agree: pyproject.toml, requirements.txt, and the two files of constraints.

And every test runs somewhere: a target of the Makefile has the packages that it needs, and each target a workflow.
"""

import ast
import itertools
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, GROUPS = PYPROJECT["project"], PYPROJECT["dependency-groups"]
EXTRAS = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "all"}  # of these others


def requirements(lines: list) -> dict[str, Requirement]:
    """Requirements by name, of lines of a file or of an entry of pyproject.toml; those of included groups with them."""
    found = {}
    for line in lines:
        if isinstance(line, dict):
            found |= requirements(GROUPS[line["include-group"]])
        elif text := line.split("#")[0].strip():
            requirement = Requirement(text)
            found[canonicalize_name(requirement.name)] = requirement
    return found


def read(name: str) -> dict[str, Requirement]:
    return requirements((ROOT / name).read_text().splitlines())


def lower_bound(requirement: Requirement) -> Version:
    (bound,) = requirement.specifier
    assert bound.operator in {">=", "=="}, requirement
    return Version(bound.version)


def declared() -> dict[str, Requirement]:
    """What a user of the package can install: dependencies, and those of the extras."""
    return requirements([*PROJECT["dependencies"], *itertools.chain(*EXTRAS.values())])


def test_requirements_are_the_dependencies_with_mpi4py():
    assert read("requirements.txt") == requirements([*PROJECT["dependencies"], *EXTRAS["mpi"]])


def test_a_package_has_one_bound_wherever_it_is_named():
    everywhere = [declared(), *map(requirements, EXTRAS.values()), *map(requirements, GROUPS.values())]
    for one in everywhere:
        for name, requirement in one.items():
            assert {str(other[name].specifier) for other in everywhere if name in other} == {str(requirement.specifier)}


@pytest.mark.parametrize("group", GROUPS)
def test_what_make_installs_has_a_version(group):
    pinned = read("constraints.txt")
    named = requirements(GROUPS[group]) | read("requirements.txt") | requirements(EXTRAS["mpi-local"])
    assert named.keys() <= pinned.keys()
    for name, requirement in named.items():
        assert requirement.specifier.contains(lower_bound(pinned[name])), name


def test_the_lowest_versions_are_the_bounds():
    """The workflow installs them: those that `make test` takes, which are all but notebooks and language models."""
    others = requirements([*EXTRAS["notebook"], *EXTRAS["language"]])
    bounds = {name: lower_bound(requirement) for name, requirement in declared().items() if name not in others}
    assert {name: lower_bound(requirement) for name, requirement in read("tests/lowest_versions.txt").items()} == bounds
    installed = read("requirements.txt") | requirements(EXTRAS["mpi-local"]) | requirements(GROUPS["dev"])
    assert bounds.keys() <= installed.keys()


def test_the_description_for_the_index_leads_nowhere_into_the_clone():
    text = (ROOT / PROJECT["readme"]).read_text()
    targets = re.findall(r'(?:src="|srcset="|\]\()([^)"]+)', text)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []


# Every test runs somewhere ----------------------------------------------------------------------------------------

MAKEFILE = (ROOT / "Makefile").read_text()
BROUGHT_BY = {"tokenizers": "transformers", "vtkmodules": "pyvista"}  # modules that other packages bring


def skips_without(source: str) -> set[str]:
    """Packages that a file asks for by `importorskip`, or tries to import at its top before it skips itself."""
    tree = ast.parse(source)
    modules = {
        str(node.args[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip"
        if isinstance(node.args[0], ast.Constant)
    }
    for node in tree.body:
        if isinstance(node, ast.Try) and "pytest.skip" in ast.unparse(node.handlers[0]):
            for line in node.body:
                modules |= {alias.name for alias in line.names} if isinstance(line, ast.Import) else set()
                modules |= {str(line.module)} if isinstance(line, ast.ImportFrom) else set()
    roots = {module.partition(".")[0] for module in modules}
    return {canonicalize_name(BROUGHT_BY.get(root, root)) for root in roots}


def files_of_integrations() -> list[str]:
    (line,) = re.findall(r"^INTEGRATIONS = ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    return line.replace("\\\n", " ").split()


def test_no_test_waits_for_a_package_that_no_target_installs():
    assert skips_without("try:\n    import a.b\nexcept ImportError:\n    pytest.skip('a')") == {"a"}
    assert skips_without("def test():\n    pytest.importorskip('peft')") == {"peft"}
    usual = requirements([*PROJECT["dependencies"], *GROUPS["dev"]]).keys()
    integrations = requirements([*PROJECT["dependencies"], *GROUPS["integrations"]]).keys()
    separate, waiting = files_of_integrations(), 0
    assert all((ROOT / name).is_file() for name in separate)
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        needed = skips_without(file.read_text())
        waiting += bool(needed)
        there = usual | integrations if f"tests/{file.name}" in separate else usual
        assert needed <= there, file.name
    assert waiting > 10


def test_the_workflows_run_every_target_of_tests():
    """And they name none that is not there."""
    commands = []
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            steps = [step.get("run", "") for step in job["steps"]]
            for entry in job.get("strategy", {}).get("matrix", {}).get("include", [{}]):
                commands += [step.replace("${{ matrix.tests }}", entry.get("tests", "")) for step in steps]
    run = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(commands)))
    (line,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert run <= set(line.split())
    assert {"lint", "test", "quick", "test-all", "test-integrations", "mutants", "docs"} <= run
