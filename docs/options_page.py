"""Make docs/options.md, the reference page of all options, from their definitions: python docs/options_page.py"""

import re
import sys
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from lossatlas.cli import COMMANDS  # noqa: E402
from lossatlas.option_fields import Option, definitions, written  # noqa: E402

HEAD = """# All options

Each command by its short name, as in `lossatlas surface`; in a clone, the script of the same name as the module does the same. An
option is written with two dashes on the command line (`--limit 500`), and without them in a file for `--config`:

```yaml
model: resnet20
limit: 500
x: -1:1:51
figures: {plot: true, vmax: 10}     # options may stand below their heading
only: [lora_, layer3]
```

Values in files are checked as on the command line. `--config` can be given several times: a later file overrides an earlier one,
and the command line overrides all files; `--no_NAME` turns off a flag that a file turns on. `--print_config` prints all options of
a command as such a file, and stops. The files that commands write keep all options under `config` (`python h5_util.py FILE`).
"""


def cell(text: str) -> str:
    """Text of a table's cell, with options as code, in which nothing else is taken for a mark."""
    parts = re.split(r"(--[a-zA-Z0-9_]+)", text)
    return "".join(
        f"`{part}`" if part.startswith("--") else re.sub(r"([\\|*_<>\[\]`$])", r"\\\1", part) for part in parts
    )


def row(option: Option) -> str:
    names = [option.spelling, *filter(None, [option.short]), *(f"--{name}" for name in option.old)]
    value = option.metavar or ("" if option.flag else "value")
    if option.choices:
        value = ", ".join(str(each) or "''" for each in option.choices)
    value += {"+": " ...", "*": " [...]"}.get(option.many, "")
    default = "required" if option.required else "" if option.default in (None, (), "") else written(option.default)
    default = "" if option.flag else default
    spelled = ", ".join(f"`{name}`" for name in names)
    return f"| {spelled} | {cell(value)} | {cell(default)} | {cell(option.help)} |"


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for name, module in COMMANDS.items():
        options = import_module(f"lossatlas.commands.{module}").parser().options
        parts.append(f"## {name}\n\n`{module}.py`\n")
        by_heading: dict[str, list[Option]] = {}
        for each in definitions(options):
            by_heading.setdefault(each.heading, []).append(each)
        for heading, members in by_heading.items():
            rows = "\n".join(row(each) for each in members)
            parts.append(f"**{heading}**\n\n| option | value | default | |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (DOCS / "options.md").write_text(page())
