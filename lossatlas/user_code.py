"""What users bring: networks, data and losses that a file or a package of their own makes.

    make = Factory.parse("--model", "nets/vit.py:make_net", ["width=64"])
    net = make()

`path/to/file.py:name`, or `package.module:name` of what is installed or lies in the current folder. While a user's file is
imported and its function runs, its folder comes first and none of this program's modules can be seen: a `models.py` or
`options.py` of theirs is theirs, and ours stays ours. What a network imports later, in its `forward`, is outside of this.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from lossatlas.errors import BadInput, BadUsage, Stop, call_of, place_of

HERE = Path(__file__).resolve().parent
CLONE = HERE.parent  # its scripts have names that a user's files may have too
IN_CLONE = (CLONE / "plot_surface.py").is_file()
OURS = (str(HERE / "user_code"), str(HERE / "process"))  # no place where an error of a user's comes from


def is_user_function(name: str) -> bool:
    """Whether a name is that of a user's own function, and not one of ours."""
    return ":" in name


@dataclass(frozen=True)
class UserFunction:
    """A function of a user's, and the arguments it is called with. Travels to other ranks, which import it themselves."""

    option: str
    where: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, option: str, text: str, arguments: Sequence[str] = ()) -> "UserFunction":
        """From 'file.py:name' and 'key=value' each. Raises BadUsage."""
        where, _, name = text.rpartition(":")
        if not where or not name.isidentifier():
            raise BadUsage(f"{option} {text}: give path/to/file.py:name or package.module:name")
        return cls(option, where, name, dict(parse_argument(option, part) for part in arguments))

    @property
    def path(self) -> Path | None:
        """The file, where it is given as one."""
        return Path(self.where) if self.where.endswith(".py") or "/" in self.where else None

    def __str__(self) -> str:
        """What is recorded of it: the file's own name, because its folder may move."""
        given = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return f"{self.path.name if self.path else self.where}:{self.name}({given})"

    @property
    def code(self) -> str:
        """SHA-256 of the file that holds it, '' for a module that has none."""
        if self.path is None:
            with isolated_imports(Path.cwd()):
                found = self.module().__file__
        else:
            found = str(self.path)
        return hashlib.sha256(Path(found).read_bytes()).hexdigest() if found and Path(found).is_file() else ""

    @property
    def function(self) -> Callable[..., Any]:
        """Raises BadInput where the file, the import or the function fails, each in one line."""
        with self.at_home():
            found = getattr(self.module(), self.name, None)
        if found is None:
            raise BadInput(f"{self.option}: {self.where} has no '{self.name}': there are {', '.join(self.offers())}")
        if not callable(found):
            raise BadInput(f"{self.option}: '{self.name}' in {self.where} is {type(found).__name__}, not a function")
        return found

    def offers(self) -> list[str]:
        with self.at_home():
            module = self.module()
        own = [
            name
            for name, value in vars(module).items()
            if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
        return own or ["no functions"]

    def __call__(self, **more: Any) -> Any:
        """Call it, with those of `more` that it takes. What fails in it is said with the line of its own where it does."""
        function = self.function
        taken = parameter_names(function)
        arguments = {**{key: value for key, value in more.items() if key in taken}, **self.arguments}
        if unknown := sorted(set(arguments) - taken) if "**" not in taken else []:
            raise BadUsage(
                f"{self.option} {self}: it takes no '{unknown[0]}'; it takes {', '.join(sorted(taken)) or 'nothing'}"
            )
        with self.at_home():
            try:
                return function(**arguments)
            except (Stop, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise BadInput(f"{self.option} {self} fails: {cause_of(error)}") from error

    @contextmanager
    def at_home(self) -> Iterator[None]:
        with isolated_imports(self.path.resolve().parent if self.path else Path.cwd()):
            yield

    def module(self) -> ModuleType:
        if self.path is not None:
            return module_of(self.option, self.path.resolve())
        try:
            return importlib.import_module(self.where)
        except ModuleNotFoundError as error:
            if error.name and (self.where == error.name or self.where.startswith(f"{error.name}.")):
                raise BadInput(f"{self.option}: there is no module '{error.name}' here, nor is it installed") from error
            raise BadInput(f"{self.option}: {self.where} cannot be imported: {cause_of(error)}") from error
        except Exception as error:
            raise BadInput(f"{self.option}: {self.where} cannot be imported: {cause_of(error)}") from error


def parse_argument(option: str, text: str) -> tuple[str, Any]:
    """'key=value', the value as Python writes numbers, texts, lists and so on, otherwise as a text."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise BadUsage(f"{option}_args {text}: give key=value, as in width=64")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def parameter_names(function: Callable[..., Any]) -> set[str]:
    """The names of the arguments it takes by name, and '**' where it takes any."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {"**"}
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return {p.name for p in found} | {"**"}
    return {p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


@cache
def module_of(option: str, path: Path) -> ModuleType:
    """The module in a file, under a name of its own; run once."""
    if not path.is_file():
        raise BadInput(f"{option}: no file {path}")
    name = f"users_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{option}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Stop:
        raise
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise BadInput(f"{option}: {path} cannot be imported: {cause_of(error)}") from error
    return module


def cause_of(error: BaseException) -> str:
    """What went wrong and in which line of the user's files."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    if isinstance(error, SystemExit):
        return f"{place_of(error, OURS)}{call_of(error)} was called"
    return f"{place_of(error, OURS)}{type(error).__name__}: {text}"[:400]


USER_FOLDERS: set[Path] = set()  # where users' files lie


def of_another_folder(name: str, module: Any, folder: Path) -> bool:
    """Whether a module was imported by a user's file in another folder, such as a `utils.py` beside it."""
    where = getattr(module, "__file__", None)
    if not where or name.startswith("users_") or name == "__main__" or "site-packages" in where:
        return False
    return any(
        where.startswith(f"{place}{os.sep}")
        and place != folder
        and place not in folder.parents
        and folder not in place.parents
        for place in USER_FOLDERS
    )


# What users' files have imported under names that are ours too, by folder.
USER_MODULES: dict[Path, dict[str, ModuleType]] = {}


def end_if_another(process: int, error: BaseException | None) -> None:
    """End a process that a user's code forked and let come back: only the one that called the code goes on."""
    if os.getpid() != process:
        code = error.code if isinstance(error, SystemExit) else int(error is not None)
        os._exit(code if isinstance(code, int) else int(code is not None))


@contextmanager
def isolated_imports(folder: Path) -> Iterator[None]:
    """Let a user's folder come first among the places of imports, and hide this program's modules from it."""
    names = {path.stem for path in CLONE.glob("*.py")} | {"models"} if IN_CLONE else set()

    def collisions() -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.split(".")[0] in names}

    others = {name: module for name, module in sys.modules.items() if of_another_folder(name, module, folder)}
    USER_FOLDERS.add(folder)
    for name in others:
        del sys.modules[name]
    ours, path = collisions(), list(sys.path)
    main = sys.modules.get("__main__")
    for name in ours:
        del sys.modules[name]
    sys.modules.update(USER_MODULES.get(folder, {}))
    sys.modules["__main__"] = ModuleType("__main__")  # what processes of theirs would import again
    sys.path[:] = [
        str(folder),
        *(entry for entry in path if Path(entry or ".").resolve() not in ((CLONE, folder) if IN_CLONE else (folder,))),
    ]
    importlib.invalidate_caches()
    place, process = os.getcwd(), os.getpid()
    try:
        yield
        end_if_another(process, None)
    except BaseException as error:
        end_if_another(process, error.__cause__ or error)
        raise
    finally:
        os.chdir(place)
        USER_MODULES[folder] = collisions()
        for name in USER_MODULES[folder]:
            del sys.modules[name]
        sys.modules.update({**others, **ours})
        if main is not None:
            sys.modules["__main__"] = main
        sys.path[:] = path
        importlib.invalidate_caches()
