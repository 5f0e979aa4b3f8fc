"""Configuration files: options by name in YAML, or in JSON, which is YAML too.

x: -1:1:51
limit: 500
figures: {plot: true, vmax: 10}     # options may stand below the heading that --help shows them under
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from lossatlas.config.option_fields import Option, definitions, resolved_options
from lossatlas.errors import BadUsage, did_you_mean, named
from lossatlas.landscape.grid import shown

YAML_BOOL, YAML_NULL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), re.compile(r"^(?:~|null|Null|NULL|)$")


def read_config(file: str, known: Sequence[Option]) -> dict[str, Any]:
    """Read a configuration file.

    Args:
        file: Its path.
        known: The options that may stand in it.

    Returns:
        Checked values by the field of each option.

    Raises:
        BadUsage: The file cannot be read, or names an option or value that does not exist.
    """
    by_name = {name: each for each in known for name in (each.name, *each.old)}
    found: dict[str, Any] = {}
    for name, given, heading in config_entries(file, load_yaml(file), {each.heading for each in known}):
        option = by_name.get(name)
        if option is None or heading not in (None, option.heading):
            raise BadUsage(f"{file}: {name}: {as_text(given)}: {unknown(name, option, by_name)}")
        if option.field in found:
            raise BadUsage(f"{file}: {name}: {as_text(given)}: the option is given twice")
        try:
            found[option.field] = option.value_of(given)
        except ValueError as error:
            raise BadUsage(f"{file}: {name}: {as_text(given)}: {error}") from None
    return found


def config_entries(file: str, content: Any, headings: set[str]) -> Iterator[tuple[str, Any, str | None]]:
    """Name and value of each entry, and the heading that it stands below, None without one."""
    if not isinstance(content, Mapping):
        raise BadUsage(f"{file}: give options as 'name: value', one per line")
    for name, given in content.items():
        if isinstance(given, Mapping) and name in headings:
            yield from ((str(each), value, name) for each, value in given.items())
        else:
            yield str(name), given, None


def unknown(name: str, option: Option | None, by_name: Mapping[str, Option]) -> str:
    """Say why a name of a file is not an option below its heading.

    Args:
        name: The name in the file.
        option: The option of this name, which stands below another heading; None if there is none.
        by_name: The options of the command by name, for a proposal.
    """
    if option is not None:
        return (
            f"this option stands below '{option.heading}'" if option.heading else "this option stands below no heading"
        )
    return f"no option of this command has this name{did_you_mean(name, by_name)}"


def as_text(given: Any) -> str:
    words = {True: "true", False: "false", None: "null"}
    return shown(words[given] if given is None or isinstance(given, bool) else str(given))


def load_yaml(file: str) -> Any:
    """Read the content of a YAML file, in which all scalars but true, false and null are text.

    So -1:1:51 is not read as a sexagesimal number, and options read their values as they do on the command line.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML reader without numbers and dates, which refuses a key that stands twice."""

        yaml_implicit_resolvers: ClassVar[dict] = {}

        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            keys = [key.value for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise BadUsage(f"{file}: {twice[0]}: the option is given twice")
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", YAML_BOOL, list("tTfF"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:null", YAML_NULL, ["~", "n", "N", ""])
    try:
        with open(file, encoding="utf-8") as stream:
            content = yaml.load(stream, Loader)
    except OSError as error:
        raise BadUsage(f"{named('config', file)}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BadUsage(f"{named('config', file)}: no YAML: {' '.join(str(error).split())}") from None
    return {} if content is None else content


def written_config(options: Any) -> str:
    """Write all options as YAML, the options of a group below a comment with its heading."""
    import yaml

    values, lines, heading = resolved_options(options), list[str](), ""
    for each in sorted(definitions(type(options)), key=lambda each: heading_order(type(options)).index(each.heading)):
        if each.heading != heading:
            heading = each.heading
            lines.append(f"# {heading}\n")
        lines.append(yaml.safe_dump({each.name: values[each.name]}, width=1000, allow_unicode=True))
    return "".join(lines)


def heading_order(group: type) -> list[str]:
    return list(dict.fromkeys(each.heading for each in definitions(group)))
