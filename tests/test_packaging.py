"""The files that say what to install agree: pyproject.toml, requirements.txt, and the two files of constraints."""

import itertools
import tomllib
from pathlib import Path

import pytest
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
