"""User functions: networks, data and losses from a file or a package of the user's.

    make = UserFunction.parse("model", "nets/vit.py:make_net", ["width=64"])
    net = make()

A function is named as `path/to/file.py:name`, or as `package.module:name` of a module that is installed or in the
current folder. Short forms such as `hf:FOLDER` name functions of this package, and their first argument. While a
user's file is imported and its function runs, its folder comes first in the search for modules, and modules of this
program with the same names are hidden: a `models.py` of the user's does not collide with ours. Imports within a
network's `forward` come later, and are not isolated.
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
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from lossatlas.errors import BadInput, BadUsage, Stop, did_you_mean, error_location, exit_call, named

HERE = Path(__file__).resolve().parent
CLONE = HERE.parent  # its scripts may have the names of a user's files; data sets of the release of 2018 lie in it
IN_CLONE = (CLONE / "plot_surface.py").is_file()  # otherwise the package is installed
OWN_FILES = (str(HERE / "user_code"), str(HERE / "process"))  # skipped in the location of a user's error
TRUE_WORDS, FALSE_WORDS = ("true", "yes", "1"), ("false", "no", "0")


def is_user_function(name: str) -> bool:
    """Test whether a name, by its colon, names a user function, not one of this program's."""
    return ":" in name


@dataclass(frozen=True)
class ShortForm:
    """A word that names a function of this package, with one argument behind a colon.

    Attributes:
        field: The field of the configuration in which it is understood.
        where: The module.
        name: The function's name.
        argument: The argument that follows the colon: a file or a folder.
    """

    field: str
    where: str
    name: str
    argument: str


SHORT_FORMS = {
    "hf": ShortForm("model", "lossatlas.models.hugging_face", "load_model", "folder"),
    "text": ShortForm("dataset", "lossatlas.datasets.texts", "load_texts", "file"),
    "choices": ShortForm("dataset", "lossatlas.datasets.questions", "load_questions", "file"),
}


def short_form(field: str, text: str) -> ShortForm | None:
    """Return the short form of a text, such as the form of 'hf:FOLDER'; None where the field has no such form."""
    word, colon, _ = text.partition(":")
    form = SHORT_FORMS.get(word) if colon else None
    return form if form is not None and form.field == field else None


@dataclass(frozen=True)
class UserFunction:
    """A function of the user's, with arguments. It is pickled by name, and every rank imports it.

    Attributes:
        field: The field of the configuration that names it, for messages, see `errors.named`.
        where: The file or the module.
        name: The function's name.
        arguments: Keywords it is called with.
        short: Its description for records, where it is a function of this package, see `ShortForm`; '' otherwise.

    Example:
        >>> UserFunction.parse("loss_name", "math:sqrt").function(4)
        2.0
    """

    field: str
    where: str
    name: str
    arguments: Mapping[str, Any] = dataclass_field(default_factory=dict)
    short: str = ""

    @classmethod
    def parse(cls, field: str, text: str, arguments: Sequence[str] = ()) -> "UserFunction":
        """Parse a function's name and arguments.

        Args:
            field: The field of the configuration, such as 'model'.
            text: 'file.py:name', 'package.module:name', or a short form.
            arguments: 'key=value' each; those of a short form are read by the types of its parameters.

        Raises:
            BadUsage: A text has another form, or a value is not of the type of its parameter.
        """
        given = dict(parse_argument(field, part) for part in arguments)
        if form := short_form(field, text):
            word, _, path = text.partition(":")
            if not path:
                raise BadUsage(f"{named(field, text)}: name the {form.argument}, as in {word}:{form.argument.upper()}")
            given = typed_arguments(field, form, arguments) if arguments else {}
            more = f"({arguments_in_words(given)})" if given else ""
            return cls(field, form.where, form.name, {form.argument: path, **given}, f"{word}:{Path(path).name}{more}")
        where, _, name = text.rpartition(":")
        if not where or not name.isidentifier():
            raise BadUsage(f"{named(field, text)}: give path/to/file.py:name or package.module:name")
        return cls(field, where, name, given)

    @property
    def path(self) -> Path | None:
        """The file; None where a module is named."""
        return Path(self.where) if self.where.endswith(".py") or "/" in self.where else None

    def __str__(self) -> str:
        """Describe it for records: by the file's name without its folder, which may move."""
        return self.short or f"{self.where_and_name}({arguments_in_words(self.arguments)})"

    @property
    def short_argument(self) -> str:
        """The name of the argument behind the colon of a short form; '' for a user's function."""
        forms = SHORT_FORMS.values() if self.short else ()
        return next((form.argument for form in forms if (form.where, form.name) == (self.where, self.name)), "")

    @property
    def base_name(self) -> str:
        """The beginning of the names of files that are made of it: its module and name, or the path of a short form."""
        if self.short:
            return str(self.arguments[self.short_argument]).rstrip("/")
        return f"{Path(self.where).stem}_{self.name}"

    @property
    def code(self) -> str:
        """SHA-256 of the file that holds it; '' for a module without a file, and for a function of this package."""
        if self.short:
            return ""
        if self.path is None:
            with isolated_imports(Path.cwd()):
                found = self.module().__file__
        else:
            found = str(self.path)
        return hashlib.sha256(Path(found).read_bytes()).hexdigest() if found and Path(found).is_file() else ""

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself, which is imported now.

        Raises:
            BadInput: The file, the import or the function does not exist, or fails.
        """
        with self.isolated():
            found = getattr(self.module(), self.name, None)
        if found is None:
            raise BadInput(
                f"{named(self.field)}: {self.where} has no '{self.name}': there are {', '.join(self.available())}"
            )
        if not callable(found):
            raise BadInput(
                f"{named(self.field)}: '{self.name}' in {self.where} is {type(found).__name__}, not a function"
            )
        return found

    def available(self) -> list[str]:
        """List the functions of the module, and other objects in it that can be called, such as partial functions."""
        with self.isolated():
            module = self.module()
        own = [
            name
            for name, value in vars(module).items()
            if callable(value)
            and not name.startswith("_")
            and (getattr(value, "__module__", None) == module.__name__ or is_callable_object(value))
        ]
        return own or ["no functions"]

    def __call__(self, **more: Any) -> Any:
        """Call the function.

        Args:
            more: Further keywords, which are passed if the function has such parameters.

        Raises:
            BadUsage: It has no parameter of the name of an argument.
            BadInput: It fails; the message names the line.
        """
        function = self.function
        taken = parameter_names(function)
        arguments = {**{key: value for key, value in more.items() if key in taken}, **self.arguments}
        if unknown := sorted(set(arguments) - taken) if "**" not in taken else []:
            known = f"'{unknown[0]}'{did_you_mean(unknown[0], taken)}; it takes {', '.join(sorted(taken)) or 'nothing'}"
            raise BadUsage(f"{self.named_argument(unknown[0])}: {self.where_and_name} takes no {known}")
        for key in switches(function) & {key for key, value in self.arguments.items() if isinstance(value, str)}:
            try:
                arguments[key] = truth(arguments[key])
            except ValueError as error:
                raise BadUsage(f"{self.named_argument(key)}: {error}") from None
        with self.isolated():
            try:
                return function(**arguments)
            except (Stop, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise BadInput(f"{named(self.field)} {self} fails: {cause_line(error)}") from error

    @property
    def where_and_name(self) -> str:
        """The name of the function as the user wrote it, without its arguments and the folder of its file."""
        if self.short:
            return f"{self.short.partition(':')[0]}:{Path(self.base_name).name}"
        return f"{self.path.name if self.path else self.where}:{self.name}"

    def named_argument(self, key: str) -> str:
        """Name an argument and its value for messages."""
        return named(f"{self.field}_args", f"{key}={self.arguments[key]}")

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Isolate imports within, see `isolated_imports`; imports of this package's functions are not isolated."""
        if self.short:
            yield
            return
        with isolated_imports(self.path.resolve().parent if self.path else Path.cwd()):
            yield

    def module(self) -> ModuleType:
        """Import the module.

        Raises:
            BadInput: There is no such module, or it cannot be imported.
        """
        if self.path is not None:
            return load_module(self.field, self.path.resolve())
        try:
            return importlib.import_module(self.where)
        except ModuleNotFoundError as error:
            if error.name and (self.where == error.name or self.where.startswith(f"{error.name}.")):
                raise BadInput(
                    f"{named(self.field)}: there is no module '{error.name}' here, nor is it installed"
                ) from error
            raise BadInput(f"{named(self.field)}: {self.where} cannot be imported: {cause_line(error)}") from error
        except Exception as error:
            raise BadInput(f"{named(self.field)}: {self.where} cannot be imported: {cause_line(error)}") from error


def is_callable_object(value: Any) -> bool:
    """Return whether this is an object that can be called, and neither a function nor a type."""
    return callable(value) and not (inspect.isroutine(value) or inspect.isclass(value) or is_annotation(value))


def is_annotation(value: Any) -> bool:
    """Return whether this is from `typing`, whose types can be called too."""
    return type(value).__module__ in ("typing", "types")


def arguments_in_words(arguments: Mapping[str, Any]) -> str:
    """Write arguments as a call does."""
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


def parse_argument(field: str, text: str) -> tuple[str, Any]:
    """Parse 'key=value'.

    Args:
        field: The field of the configuration that the arguments belong to.
        text: The value is a Python literal (number, text, list, ...), anything else a text. Where the parameter of the
            function is true or false by its type or default, such a text is read by `truth` when it is called.

    Raises:
        BadUsage: The text has another form.

    Example:
        >>> parse_argument("model", "width=64")
        ('width', 64)
    """
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise BadUsage(f"{named(f'{field}_args', text)}: give key=value, as in width=64")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def typed_arguments(field: str, form: ShortForm, texts: Sequence[str]) -> dict[str, Any]:
    """Read the arguments of a short form by the types of the parameters of its function.

    Args:
        field: The field of the configuration that the arguments belong to.
        form: The short form.
        texts: 'key=value' each; a text may stand in quotes of Python.

    Raises:
        BadUsage: A value is not of the type of its parameter.

    Example:
        >>> typed_arguments("dataset", SHORT_FORMS["text"], ["packed=false", "length=64", "field=2"])
        {'packed': False, 'length': 64, 'field': '2'}
    """
    parameters = inspect.signature(getattr(importlib.import_module(form.where), form.name)).parameters
    found = {}
    for text in texts:
        key, literal = parse_argument(field, text)
        value, kind = text.partition("=")[2], parameters[key].annotation if key in parameters else None
        try:
            found[key] = truth(value) if kind is bool else whole_number(value) if kind is int else literal
        except ValueError as error:
            raise BadUsage(f"{named(f'{field}_args', text)}: {error}") from None
        if kind not in (bool, int, None) and not isinstance(literal, str | None):
            found[key] = value
    return found


def truth(text: str) -> bool:
    """Read true or false.

    Raises:
        ValueError: The text is none of TRUE_WORDS and FALSE_WORDS.

    Example:
        >>> truth("True"), truth("no")
        (True, False)
    """
    word = text.strip().lower()
    if word not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError(f"'{text}' is neither true nor false")
    return word in TRUE_WORDS


def whole_number(text: str) -> int:
    """Read a whole number.

    Raises:
        ValueError: The text is none.
    """
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"'{text}' is no whole number") from None


def switches(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's parameters that are true or false, by their type or their default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    kinds = (bool, bool | None, "bool", "bool | None")
    return {p.name for p in parameters if p.annotation in kinds or isinstance(p.default, bool)}


def parameter_names(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's keyword parameters, with '**' where it takes any keyword."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {"**"}
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return {p.name for p in found} | {"**"}
    return {p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


@cache
def load_module(field: str, path: Path) -> ModuleType:
    """Import a file as a module with a unique name; once for each file.

    Raises:
        BadInput: There is no such file, or it cannot be imported.
    """
    if not path.is_file():
        raise BadInput(f"{named(field)}: no file {path}")
    name = f"users_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{named(field)}: {path} is no Python file")
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
        raise BadInput(f"{named(field)}: {path} cannot be imported: {cause_line(error)}") from error
    return module


def cause_line(error: BaseException) -> str:
    """Describe an error, and the line of the user's files that it comes from."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    if isinstance(error, SystemExit):
        return f"{error_location(error, OWN_FILES)}{exit_call(error)} was called"
    return f"{error_location(error, OWN_FILES)}{type(error).__name__}: {text}"[:400]


USER_FOLDERS: set[Path] = set()  # folders of users' files


def of_another_folder(name: str, module: ModuleType, folder: Path) -> bool:
    """Test whether a module was imported by a user's file in another folder, such as a `utils.py` beside it."""
    where = getattr(module, "__file__", None)
    if not where or name.startswith("users_") or name == "__main__" or "site-packages" in where:
        return False
    return any(
        where.startswith(f"{other}{os.sep}")
        and other != folder
        and other not in folder.parents
        and folder not in other.parents
        for other in USER_FOLDERS
    )


# Modules that users' files have imported under names of this program's modules, by folder.
USER_MODULES: dict[Path, dict[str, ModuleType]] = {}


def end_if_another(process: int, error: BaseException | None) -> None:
    """End a process that a user's code has forked and that returns here: only the calling one continues."""
    if os.getpid() != process:
        code = error.code if isinstance(error, SystemExit) else int(error is not None)
        os._exit(code if isinstance(code, int) else int(code is not None))


@contextmanager
def isolated_imports(folder: Path) -> Iterator[None]:
    """Search a user's folder first for modules within, and hide modules of this program with the same names.

    Afterwards the search path, the modules and the current folder are restored.

    Args:
        folder: The user's folder.
    """
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
    sys.modules["__main__"] = ModuleType("__main__")  # which processes that the user's code starts would import again
    sys.path[:] = [
        str(folder),
        *(entry for entry in path if Path(entry or ".").resolve() not in ((CLONE, folder) if IN_CLONE else (folder,))),
    ]
    importlib.invalidate_caches()
    before, process = os.getcwd(), os.getpid()
    try:
        yield
        end_if_another(process, None)
    except BaseException as error:
        end_if_another(process, error.__cause__ or error)
        raise
    finally:
        os.chdir(before)
        USER_MODULES[folder] = collisions()
        for name in USER_MODULES[folder]:
            del sys.modules[name]
        sys.modules.update({**others, **ours})
        if main is not None:
            sys.modules["__main__"] = main
        sys.path[:] = path
        importlib.invalidate_caches()


def function_record(field: str, name: str | UserFunction) -> dict[str, Any]:
    """Return the fields that identify a network or a loss.

    The code of modules that a user's file imports is not among them: it shows in the loss of some samples alone.

    Args:
        field: 'model' or 'loss'.
        name: The name, or the user's function.

    Returns:
        The name; for a user's function also the digest of its file.
    """
    return {field: str(name), f"{field}_code": name.code} if isinstance(name, UserFunction) else {field: name}
