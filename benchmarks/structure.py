"""Counts of the code's structure: its size, what is long, what exists twice, and what a small job passes through.

    python benchmarks/structure.py [--against CHECKOUT]

Counted are the package, the scripts of the root and models/, without tests, benchmarks, documentation and examples.
The files of a job are those whose functions are called for a 3 x 3 surface of the command, in this process.
"""

import argparse
import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {".venv", "tests", "benchmarks", "docs", "examples", ".git", "build"}
LONG = 40  # lines of a function's body, without its docstring
SAME = 6  # lines of code that are equal in two places

SURFACE = """
import os, sys, threading
root, folder = sys.argv[1:]
sys.path.insert(0, root)
files = set()
def called(frame, event, argument):
    name = frame.f_code.co_filename
    if event == "call" and name.startswith(root + "/") and "/.venv/" not in name and frame.f_code.co_name != "<module>":
        files.add(name)
import torch
try:
    from lossatlas.commands.plot_surface import main
except ImportError:
    from plot_surface import main
threading.setprofile(called); sys.setprofile(called)
main((f"--model resnet20 --model_file {root}/trained_nets/resnet20_small_batch.safetensors "
      f"--dataset fashion_mnist_mini --limit 40 --threads 1 --xnorm filter --ynorm filter --x=-1:1:3 --y=-1:1:3 "
      f"--dir_file {folder}/d.h5 --surf_file {folder}/s.h5").split())
sys.setprofile(None); threading.setprofile(None)
print(len(files), file=sys.stderr)
"""


def sources(root: Path) -> list[Path]:
    """Return the Python files that are counted."""
    return sorted(p for p in root.rglob("*.py") if not LEFT_OUT & set(p.relative_to(root).parts))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of a function's parameters."""
    return len([*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs])


def twice(names: Iterator[str]) -> list[str]:
    """Return the names that occur more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def same_places(files: list[Path]) -> int:
    """Return the number of pairs of places with at least `SAME` equal lines of code, besides imports and comments."""
    lines: dict[Path, list[str]] = {}
    for file in files:
        stripped = (line.strip() for line in file.read_text().splitlines())
        lines[file] = [s for s in stripped if len(s) > 1 and not s.startswith(("#", "import ", "from ", '"""', "@"))]
    windows: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    for file, code in lines.items():
        for start in range(len(code) - SAME + 1):
            windows[tuple(code[start : start + SAME])].append((file, start))
    pairs = {(a, b) for places in windows.values() for a in places for b in places if a < b}
    # Windows that follow each other are one pair of places.
    return sum(((a[0], a[1] - 1), (b[0], b[1] - 1)) not in pairs for a, b in pairs)


def passed_files(root: Path) -> str:
    """Return how many files a 3 x 3 surface passes through, or why that is not known."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-c", SURFACE, str(root), folder], cwd=folder, capture_output=True, text=True, check=False
        )
    last = (run.stderr.strip().splitlines() or ["nothing printed"])[-1]
    return last if run.returncode == 0 and last.isdigit() else f"not known: {last[:80]}"


def counts(root: Path) -> dict[str, str]:
    """Return all counts of a checkout, by what they are."""
    files = sources(root)
    trees = {file: ast.parse(file.read_text()) for file in files}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    documented = [
        text
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node))
    ]
    at_root = list(root.glob("*.py"))
    signatures = sorted(map(parameters, functions), reverse=True)[:4]
    inside = [p for p in files if p.parent != root and p.relative_to(root).parts[0] != "models"]
    return {
        "Python files at the root (lines)": f"{len(at_root)} ({sum(len(p.read_text().splitlines()) for p in at_root)})",
        "modules (lines)": f"{len(files)} ({sum(len(p.read_text().splitlines()) for p in files)})",
        f"functions over {LONG} lines": str(sum(body_lines(f) > LONG for f in functions)),
        "parameters of the longest signatures": ", ".join(map(str, signatures)),
        "Any": str(sum(isinstance(node, ast.Name) and node.id == "Any" for node in nodes)),
        "module names that exist twice": str(len(twice(p.stem for p in inside if not p.stem.startswith("__")))),
        "class names that exist twice": str(len(twice(n.name for n in nodes if isinstance(n, ast.ClassDef)))),
        "docstrings that begin with What, Whether, How": str(
            sum(text.split()[0] in ("What", "Whether", "How") for text in documented)
        ),
        "docstrings with Args or Attributes": str(sum("Args:" in text or "Attributes:" in text for text in documented)),
        f"pairs of places with {SAME} equal lines or more": str(same_places(files)),
        "files that a 3 x 3 surface passes through": passed_files(root),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path, help="another checkout")
    args = parser.parse_args()
    here = counts(ROOT)
    other = counts(args.against.resolve()) if args.against else {}
    for name, value in here.items():
        print(f"{name:48}", *([f"{other[name]:>16} ->"] if other else []), value)


if __name__ == "__main__":
    main()
