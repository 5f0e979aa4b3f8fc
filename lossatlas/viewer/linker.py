"""Join ES modules into one classic script, which also runs from file://, in a srcdoc frame and without module support.

Two forms are known, each at the start of a line. Imports stand at the top of a module, below its comments:

    import { a, b } from "./other.js";
    export function | class | const name ...

Anything else that says `import` or `export` is refused, so no construct is ever linked with another meaning. Each
module runs in a function of its own, after those that it imports from; the order follows from the imports alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"\./([\w.-]+\.js)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:function\*? |class |const )([A-Za-z_$][\w$]*))", re.MULTILINE)
LEADING_COMMENT = re.compile(r"(?:\s+|//[^\n]*\n|/\*.*?\*/)*", re.DOTALL)
RESERVED = re.compile(r"\b(?:import|export)\b")
NAME = re.compile(r"[A-Za-z_$][\w$]*")
NOT_NEEDED = re.compile(
    r"^[ ]*(?://[^\n]*|/\*\*.*?\*/)\n|^[ ]+", re.MULTILINE | re.DOTALL
)  # comments of whole lines, indents


class LinkError(ValueError):
    """Modules that cannot be joined."""


@dataclass(frozen=True)
class Module:
    """A module: its code without imports and exports, the names that it imports from each file, and its exports."""

    name: str
    code: str
    imports: dict[str, tuple[str, ...]]
    exports: tuple[str, ...]


def parse(name: str, text: str) -> Module:
    """Split the text of a module.

    Raises:
        LinkError: A form of import or export is not supported, or a source is imported from twice.
    """
    imports: dict[str, tuple[str, ...]] = {}
    at = LEADING_COMMENT.match(text).end()  # type: ignore[union-attr]  # it matches the empty text as well
    top, rest = text[:at], text[at:]
    while found := IMPORT.match(rest):
        names, source = [each.strip() for each in found[1].split(",")], found[2]
        if names[-1] == "":  # a trailing comma
            names.pop()
        for each in names:
            if not NAME.fullmatch(each):
                raise LinkError(f"{name}: 'import {{ {each} }}' is not a plain name")
        if source in imports:
            raise LinkError(f"{name} imports from {source} twice")
        imports[source] = tuple(names)
        rest = rest[found.end() :].lstrip("\n")
    exports = tuple(found[1] for found in EXPORT.finditer(rest))
    code = EXPORT.sub("", rest)
    if left := RESERVED.search(code):
        line = code[code.rfind("\n", 0, left.start()) + 1 :].partition("\n")[0]
        raise LinkError(f"{name}: this form of {left[0]} is not supported: {line.strip()}")
    return Module(name, top + code, imports, exports)


def modules_of(entry: str, read: Callable[[str], str]) -> list[Module]:
    """Return the modules that the entry needs, each after those that it imports from.

    Args:
        entry: The file name of the module that runs last.
        read: Returns the text of a module by its file name; OSError or LookupError if there is none.

    Raises:
        LinkError: An unknown form, file or name, or modules that import each other in a circle.
    """
    order: dict[str, Module] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise LinkError(f"modules import each other: {' -> '.join([*path[path.index(name) :], name])}")
        if name in order:
            return
        try:
            text = read(name)
        except (OSError, LookupError):
            raise LinkError(f"there is no module {name}" + (f", which {path[-1]} imports" if path else "")) from None
        module = parse(name, text)
        for source, names in module.imports.items():
            visit(source, (*path, name))
            for missing in (each for each in names if each not in order[source].exports):
                raise LinkError(f"{name} imports {missing}, which {source} does not export")
        order[name] = module

    visit(entry, ())
    return list(order.values())


def wrapped(module: Module) -> str:
    """Return a module as a function from its imports to its exports, without comments and indents."""
    parameters = ", ".join(f"{{ {', '.join(names)} }}" for names in module.imports.values())
    arguments = ", ".join(f'modules["{source}"]' for source in module.imports)
    exports = ", ".join(module.exports)
    return (
        f'modules["{module.name}"] = (({parameters}) => {{\n'
        f"{NOT_NEEDED.sub('', module.code.rstrip())}\nreturn {{ {exports} }};\n}})({arguments});\n"
    )


def link(entry: str, read: Callable[[str], str]) -> str:
    """Return one classic script that runs the module `entry`, see `modules_of`."""
    body = "\n".join(wrapped(module) for module in modules_of(entry, read))
    return f'"use strict";\n(() => {{\nconst modules = {{}};\n{body}}})();\n'
