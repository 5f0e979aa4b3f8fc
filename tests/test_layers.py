"""Imports point downwards only: from the root to the package, in it from layer to layer, and also inside `jobs`.

Each edge (HDF5, MPI, matplotlib, torch) has its owners, and the package knows nothing of the program.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

LAYERS: list[set[str]] = [
    {"choices", "errors", "launchers"},
    {"process", "programs", "signatures", "argument_checks"},
    {"landscape"},
    {"io"},
    {"user_code"},
    {"mpi"},
    {"parameter_space"},
    {"config"},
    {"data"},
    {"datasets"},
    {"models"},
    {"evaluation"},
    {"hessian"},
    {"sampling"},
    {"training"},
    {"jobs"},
    {"figures"},
    {"viewer"},
    {"results"},
    {"api", "commands"},
    {"trajectories", "coefficient_paths"},
    {"run_recorder"},
    {"integrations"},
    {"cli"},
    {"__main__"},
]
LEVEL = {f"lossatlas.{name}": level for level, names in enumerate(LAYERS) for name in names}
JOBS: list[set[str]] = [  # packages of lossatlas.jobs: their core, then their modules `api_*` and `named_*`
    {"inputs"},
    {"sweep", "curvature"},
    {"curves", "trajectory"},
    {"inputs api", "inputs named"},
    {"sweep api", "sweep named", "curvature api", "curvature named"},
    {"curves api", "curves named", "trajectory api", "trajectory named"},
]
JOBS_LEVEL = {name: level for level, names in enumerate(JOBS) for name in names}
OWNERS = {
    "h5py": {"lossatlas.io"},
    "mpi4py": {"lossatlas.mpi"},
    "argparse": {"lossatlas.commands"},
    "yaml": {"lossatlas.commands"},
    "matplotlib": {"lossatlas.figures", "lossatlas.viewer"},
    "seaborn": {"lossatlas.figures"},
}
WITHOUT_TORCH = {
    f"lossatlas.{name}"
    for name in (
        *(
            "choices",
            "errors",
            "launchers",
            "process",
            "programs",
            "landscape",
            "io",
            "config",
            "cli",
        ),
        *("figures", "viewer"),
        *(
            "commands.figure_keywords",
            "commands.job_choices",
            "commands.options",
            "commands.plot_1D",
            "commands.plot_2D",
            "commands.plot_spectrum",
            "commands.view_gallery",
            "commands.view_surface",
        ),
    )
}
SAME_EVERYWHERE = {"main", "parser", "run", "draw"}  # names of functions that commands and figures share
SAME_IN_COMMANDS = {"check_options", "hessian_settings", "report"}  # the same step of several commands
SAME_FOR_USERS = {  # documented: computes, and draws; of two libraries
    "spectrum": ["lossatlas.api", "lossatlas.figures.plot_functions"],
    "RecorderCallback": ["lossatlas.integrations.lightning", "lossatlas.integrations.transformers"],
}
LONGEST_BODY = 40  # lines of a function without its docstring
DRAWS = "lossatlas.io.seeded_directions"  # with torch's generator, when vectors are asked for and not before
FILES = [*ROOT.glob("*.py"), *(ROOT / "models").glob("*.py"), *(ROOT / "lossatlas").rglob("*.py")]


def layer(file: Path) -> str:
    """The package or module of lossatlas, or the module or folder at the root, that a file belongs to."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] == "lossatlas" else parts[0]


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


@cache
def imports(file: Path) -> set[str]:
    """Modules of the root, other packages, packages of lossatlas that a file imports; a relative import as `.name`."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [f".{node.module or ''}"]
        elif isinstance(node, ast.ImportFrom):
            names = [f"lossatlas.{a.name}" for a in node.names] if node.module == "lossatlas" else [node.module]
        else:
            continue
        found |= {".".join(name.split(".")[: 2 if name.startswith(("lossatlas.", ".")) else 1]) for name in names}
    return found


def upward(here: str, names: set[str], module: str = "") -> list[str]:
    """The imports of a package that are not from a layer below."""
    wrong = [f"imports {name[1:]} relatively" for name in names if name.startswith(".")]
    if here == "lossatlas.__init__":  # it hands on what the package offers
        return wrong + [f"imports {name} from the program" for name in names & {"lossatlas.commands", "lossatlas.cli"}]
    if not here.startswith("lossatlas."):  # scripts at the root
        return wrong
    if here not in LEVEL:
        return [*wrong, "has no layer: give it one"]
    above = [name for name in names & set(LEVEL) - {here} if LEVEL[name] >= LEVEL[here]]
    return wrong + [f"imports {name} from its own layer or above" for name in above]


def forbidden(here: str, names: set[str], module: str = "") -> list[str]:
    """The libraries that a package, or one module of it, imports although others own them."""
    foreign = [name for name, owners in OWNERS.items() if name in names and here not in owners]
    heavy = bool({here, module} & WITHOUT_TORCH) and "torch" in names and module != DRAWS
    return [f"imports {name}" for name in foreign + ["torch"] * heavy]


def violations(rule: Callable[..., list[str]]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)} {wrong}"
        for file in FILES
        for wrong in rule(layer(file), imports(file), name_of(file))
    ]


def test_imports_point_downwards():
    assert len(FILES) > 100
    assert violations(upward) == []
    assert upward("lossatlas.mpi", {"lossatlas.errors", "lossatlas.jobs", ".near"}) == [
        "imports near relatively",
        "imports lossatlas.jobs from its own layer or above",
    ]
    assert upward("lossatlas.data", {"numpy", "lossatlas.parameter_space"}) == []
    assert upward("lossatlas.parameter_space", {"lossatlas.data"}) == [
        "imports lossatlas.data from its own layer or above"
    ]
    assert upward("lossatlas.__init__", {"lossatlas.api", "lossatlas.cli"}) == [
        "imports lossatlas.cli from the program"
    ]
    assert upward("lossatlas.nowhere", set()) == ["has no layer: give it one"]


def test_every_edge_has_its_owners():
    assert violations(forbidden) == []
    assert forbidden("lossatlas.parameter_space", {"h5py", "torch", "numpy"}) == ["imports h5py"]
    assert forbidden("lossatlas.commands", {"argparse", "torch"}, "lossatlas.commands.options") == ["imports torch"]


def test_the_root_holds_the_names_of_the_program():
    wanted = {
        "plot_surface.py",
        "plot_1D.py",
        "plot_2D.py",
        "plot_hessian_eigen.py",
        "net_plotter.py",
        "scheduler.py",
        "dataloader.py",
        "h5_util.py",
        "requirements.txt",
        "models",
        "trained_nets",
        "tests",
        "lossatlas",
    }
    assert wanted <= {path.name for path in ROOT.iterdir()}


@pytest.mark.commands
def test_nothing_loads_a_module_that_takes_a_second():
    """`scipy.stats` takes 60 MB and a second on every rank; `scipy.special` has the same quantiles."""
    code = (
        "import lossatlas.hessian, lossatlas.api, sys\n"
        "from lossatlas.commands import plot_surface, hessian_spectrum, sharpness\n"
        "assert 'scipy.stats' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def modules_imported(file: Path, known: frozenset[str]) -> set[str]:
    """Modules of lossatlas that a file imports anywhere: also within functions and for annotations."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else node.module for name in names}
    return found & known


def package_files() -> dict[str, Path]:
    """The files of the package by the names of their modules, without its own `__init__`."""
    files = {name_of(file).removesuffix(".__init__"): file for file in (ROOT / "lossatlas").rglob("*.py")}
    del files["lossatlas"]  # it hands on what the package offers, when it is asked for
    return files


def part_of_jobs(module: str) -> str:
    """The package of lossatlas.jobs that a module belongs to, and the front end if it is of one."""
    package, _, name = module.removeprefix("lossatlas.jobs.").partition(".")
    front = name.partition("_")[0]
    return f"{package} {front}" if front in ("api", "named") else package


def upward_in_jobs(module: str, others: set[str]) -> list[str]:
    """The imports of a module of lossatlas.jobs that are neither of its own part nor of one below."""
    here = part_of_jobs(module)
    above = [
        name
        for name in sorted(others)
        if part_of_jobs(name) != here and JOBS_LEVEL[part_of_jobs(name)] >= JOBS_LEVEL[here]
    ]
    return [f"{module} imports {name} from its own layer of jobs or above" for name in above]


def test_the_core_of_the_jobs_knows_no_front_end():
    """Both front ends use the core: modules `named_*` of the commands, and modules `api_*` of the Python functions."""
    files = package_files()
    known = frozenset(name for name in files if name.count(".") == 3 and name.startswith("lossatlas.jobs."))
    assert {part_of_jobs(name) for name in known} <= set(JOBS_LEVEL)
    assert len(known) > 40
    assert [wrong for name in known for wrong in upward_in_jobs(name, modules_imported(files[name], known))] == []
    grid, named = "lossatlas.jobs.sweep.grid_job", "lossatlas.jobs.sweep.named_grid_job"
    assert upward_in_jobs(named, {grid, "lossatlas.jobs.curves.curve_record"}) == []
    assert upward_in_jobs(grid, {named, "lossatlas.jobs.curvature.hessian_job", "lossatlas.jobs.inputs.records"}) == [
        f"{grid} imports lossatlas.jobs.curvature.hessian_job from its own layer of jobs or above",
        f"{grid} imports {named} from its own layer of jobs or above",
    ]
    assert len(upward_in_jobs(named, {"lossatlas.jobs.sweep.api_grid_job"})) == 1


def public_names(tree: ast.Module) -> Iterator[str]:
    """Public functions, classes and constants at the top level of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            parts = [each for target in node.targets for each in ast.walk(target)]
            names = [each.id for each in parts if isinstance(each, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def is_constant(name: str, tree: ast.Module) -> bool:
    """Test whether a name at the top of a module is assigned, and not that of a function or class."""
    defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return not any(isinstance(node, defined) and node.name == name for node in tree.body)


def definitions_of(files: list[Path]) -> dict[str, list[str]]:
    """The modules that define each public function and class, and each constant that another module imports."""
    trees = {name_of(file).removesuffix(".__init__"): ast.parse(file.read_text()) for file in files}
    imported = {
        (node.module, alias.name)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    own: dict[str, list[str]] = {}
    constants: dict[str, list[str]] = {}
    for module, tree in trees.items():
        for name in dict.fromkeys(public_names(tree)):
            (constants if is_constant(name, tree) else own).setdefault(name, []).append(module)
    shared = {name for name, modules in constants.items() if any((each, name) in imported for each in modules)}
    for name, modules in constants.items():
        if name in shared or name in own:
            own.setdefault(name, []).extend(modules)
    return own


def ambiguous(definitions: dict[str, list[str]]) -> dict[str, list[str]]:
    """The functions, classes and constants of one name that are different things."""
    return {
        name: modules
        for name, modules in definitions.items()
        if len(modules) > 1
        and name not in SAME_EVERYWHERE
        and sorted(modules) != SAME_FOR_USERS.get(name)
        and not (name in SAME_IN_COMMANDS and all(module.startswith("lossatlas.commands.") for module in modules))
    }


def test_one_name_means_one_thing():
    """A function is named with its object; so are classes, shared constants and modules."""
    files = list(package_files().values())
    definitions = definitions_of(files)
    assert ambiguous(definitions) == {}
    assert len(definitions) > 1500
    stems = [file.stem for file in files if file.stem != "__init__"]
    assert {stem for stem in stems if stems.count(stem) > 1} == set()
    assert ambiguous({"read": ["lossatlas.io", "lossatlas.data"], "report": ["lossatlas.commands.a", "lossatlas.io"]})
    assert not ambiguous({"main": ["a", "b"], "report": ["lossatlas.commands.a", "lossatlas.commands.b"]})


def literal_options(source: str) -> list[str]:
    """Texts of raised errors and printed lines that spell an option of a command, unless they are command lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        call = node.exc if isinstance(node, ast.Raise) else node
        if not isinstance(call, ast.Call) or (call is node and ast.unparse(node.func) not in ("say", "note")):
            continue
        own = [each for each in ast.walk(call) if isinstance(each, ast.JoinedStr)]
        commands = [each for each in own if "programs." in ast.unparse(each)]
        shown = {id(part) for each in commands for part in ast.walk(each)}
        texts = [part for part in ast.walk(call) if isinstance(part, ast.Constant) and id(part) not in shown]
        found += [part.value for part in texts if isinstance(part.value, str)]
    return [text for text in found if re.search(r"(^|[\s(])--[a-z]", text)]


def test_messages_name_options_in_the_words_of_the_front_end():
    """By `errors.named`: a command says --limit, and Python says limit."""
    assert {name: texts for name, file in package_files().items() if (texts := literal_options(file.read_text()))} == {}
    assert literal_options("raise BadUsage(f'--dpi {dpi}: too small')") == ["--dpi "]
    assert literal_options("say('see --xnorm filter')") == ["see --xnorm filter"]
    assert literal_options("say(f'again: {programs.shell(name)} --surf_file {file}')\noption('as --dpi')") == []


def test_no_modules_import_each_other_in_a_circle():
    """Not even through imports within functions or for annotations."""
    files = package_files()
    known = frozenset(files)
    order = TopologicalSorter({name: modules_imported(file, known) - {name} for name, file in files.items()})
    order.prepare()  # a CycleError names the modules
    assert len(known) > 200


def long_functions(source: str, limit: int) -> list[str]:
    """The functions and methods whose body has more lines than the limit, without the docstring."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            count = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            found += [f"{node.name}: {count}"] * (count > limit)
    return found


def test_a_function_fits_on_a_screen():
    """Functions within a function count as its lines."""
    long = [f"{name_of(file)}.{each}" for file in FILES for each in long_functions(file.read_text(), LONGEST_BODY)]
    assert long == []
    inner = (
        "def f():\n    '''Text.'''\n    def g():\n        '''Text.'''\n        x = 1\n        return x\n    return g\n"
    )
    assert long_functions(inner, 4) == ["f: 5"]
    assert long_functions(inner, 2) == ["f: 5"]
    assert long_functions(inner, 1) == ["f: 5", "g: 2"]
    assert long_functions("class A:\n    def f(self):\n        '''Text.'''\n", 0) == []
