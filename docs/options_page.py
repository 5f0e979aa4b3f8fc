"""Make docs/options.md, the reference page of all options, from their definitions: python docs/options_page.py"""

import re
import sys
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from lossatlas.cli import COMMANDS  # noqa: E402
from lossatlas.config.option_fields import Option, definitions, written  # noqa: E402

HEAD = """# Command reference

All options of all commands. Each command has a short name, as in `lossatlas surface`. In a clone, the script in
brackets is the same command. An option is written with two dashes on the command line (`--limit 500`).

The options used most often:

| option | meaning |
|---|---|
| `--x`, `--y` `=MIN:MAX:NUM` | the grid; without `--y` a curve |
| `--xnorm`, `--ynorm` | `filter`, `layer`, `weight`, `dfilter`, `dlayer`, `unit` |
| `--dir_type states` | move the statistics of BatchNorm too (for interpolation) |
| `--split train\\|test\\|both`, `--limit N`, `--loss_name mse` | samples and loss |
| `--seed`, `--idx` | other random directions |
| `--xdirection`, `--ydirection` | `random`, `gradient`, `eigenvector:K`, `FILE.h5:K` |
| `--only`, `--except` `PATTERN …` | move, or vary, only these parameters |
| `--bn recalibrate` | estimate the statistics of BatchNorm again at every point |
| `--align` | permute the hidden units of the other network to match the first one's |
| `--repeat N`, `--per_layer` | curves along N random directions; of one layer at a time |
| `--scheme linear2x\\|barycentric` | the surfaces of the Julia notebook "Visualizing the loss landscape" |
| `--tolerance REL,ABS` | only as many samples as this standard error takes |
| `--adaptive REL,ABS` | interpolate cells that their neighbours predict within this error |
| `--precision` | `float32` (default), `float64`, `tf32`, `bfloat16`, `float16` |
| `--dry_run`, `--verbose` | print an estimate of time, memory and space; print details of the run |
| `--force` | start over; the existing file is renamed |

[Exit codes](batch.md#exit-codes).

## Configuration files

A file for `--config` contains options without dashes:

```yaml
model: resnet20
limit: 500
x: -1:1:51
figures: {plot: true, vmax: 10}     # options may stand below their heading
only: [lora_, layer3]
```

Values in files are checked as on the command line. `--config` can be given several times: a later file overrides an
earlier one, and the command line overrides all files; `--no_NAME` turns off a flag that a file turns on.
`--print_config` prints all options of a command as such a file, and stops. The files that commands write contain all
options under `config` (`python h5_util.py FILE`).
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
    for name, command in COMMANDS.items():
        if command.options:  # another name of a command, with one of its options
            continue
        options = import_module(f"lossatlas.commands.{command.module}").parser().options
        script = f" (`python {command.script}`)" if command.script else ""
        parts.append(f"## {name}\n\n`lossatlas {name}`{script}: {command.summary}.\n")
        by_heading: dict[str, list[Option]] = {}
        for each in definitions(options):
            by_heading.setdefault(each.heading, []).append(each)
        for heading, members in by_heading.items():
            rows = "\n".join(row(each) for each in members)
            parts.append(f"**{heading}**\n\n| option | value | default | |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (DOCS / "options.md").write_text(page())
