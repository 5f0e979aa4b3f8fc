"""The linker of the page's modules: separate scopes, the order of the imports, and the errors."""

import json
import subprocess

import pytest
from conftest import NODE

from lossatlas.viewer.linker import LinkError, link, modules_of, parse

needs_node = pytest.mark.skipif(NODE is None, reason="no node: apt-get install nodejs")


def linked(**sources):
    """Link modules that are named without their suffix, from main.js on."""
    return link("main.js", {f"{name}.js": text for name, text in sources.items()}.__getitem__)


def printed(**sources):
    result = subprocess.run([NODE, "-e", linked(**sources)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


PRINT = "const print = (value) => console.log(JSON.stringify(value));\n"


@needs_node
def test_each_module_has_a_scope_of_its_own():
    own = "const kept = {n};\nexport function {name}() {{\n  return kept;\n}}\n"
    main = 'import { a } from "./a.js";\nimport { b } from "./b.js";\n\nconst kept = 3;\n' + PRINT
    main += "print([a(), b(), kept, typeof other, typeof print]);\n"
    a = own.format(n=1, name="a") + "const other = 5;\n"
    assert printed(main=main, a=a, b=own.format(n=2, name="b")) == [[1, 2, 3, "undefined", "function"]]


@needs_node
def test_modules_run_once_after_what_they_import():
    say = "console.log('\"{name}\"');\nexport const {name} = 1;\n"
    assert printed(
        main='import { a } from "./a.js";\nimport { b } from "./b.js";\nconsole.log(a + b);\n',
        a='// A comment.\n\nimport { c } from "./c.js";\n\nexport const x = c;\n' + say.format(name="a"),
        b='import { c } from "./c.js";\nexport const y = c;\n' + say.format(name="b"),
        c=say.format(name="c"),
    ) == ["c", "a", "b", 2]


@needs_node
def test_functions_classes_and_constants_are_exported():
    main = 'import {\n  Thing,\n  double,\n  list,\n  one,\n} from "./a.js";\n' + PRINT
    main += "print([one, double(2), new Thing().value, [...list()]]);\n"
    a = "export const one = 1;\nexport function double(v) {\n  return 2 * v;\n}\n"
    a += "export class Thing {\n  value = 7;\n}\nexport function* list() {\n  yield 1;\n}\n"
    assert printed(main=main, a=a) == [[1, 4, 7, [1]]]


@needs_node
def test_the_script_is_strict_and_leaves_nothing_behind():
    text = linked(main=PRINT) + "console.log(typeof print, typeof modules);"
    result = subprocess.run([NODE, "-e", text], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["undefined", "undefined"]
    broken = subprocess.run([NODE, "-e", linked(main="undeclared = 1;\n")], capture_output=True, text=True, check=False)
    assert "undeclared is not defined" in broken.stderr


def test_an_export_that_is_missing_is_an_error():
    with pytest.raises(LinkError, match=r"main\.js imports b, which a\.js does not export"):
        linked(main='import { a, b } from "./a.js";\n', a="export const a = 1;\nconst b = 2;\n")


def test_a_module_that_is_missing_is_an_error():
    with pytest.raises(LinkError, match=r"there is no module a\.js, which main\.js imports"):
        linked(main='import { a } from "./a.js";\n')
    with pytest.raises(LinkError, match=r"there is no module main\.js$"):
        linked()


def test_a_cycle_is_an_error():
    with pytest.raises(LinkError, match=r"a\.js -> b\.js -> a\.js"):
        linked(
            main='import { a } from "./a.js";\n',
            a='import { b } from "./b.js";\nexport const a = 1;\n',
            b='import { a } from "./a.js";\nexport const b = 1;\n',
        )
    with pytest.raises(LinkError, match=r"main\.js -> main\.js"):
        linked(main='import { a } from "./main.js";\nexport const a = 1;\n')


A = "export const a = 1;\n"


@pytest.mark.parametrize(
    "line",
    [
        'import "./a.js";',
        'import a from "./a.js";',
        'import * as all from "./a.js";',
        'import { a as b } from "./a.js";',
        'import { a } from "a.js";',
        'import { a } from "../a.js";',
        'import { a } from "https://example.org/a.js";',
        "import { a } from './a.js';",
        'import { a } from "./a.js"; const b = 1;',
        'import { a } from "./a.js"',
        'import { a } from "./a.js";\nimport { a } from "./a.js";',
        'const b = 1;\nimport { a } from "./a.js";',
        'const b = await import("./a.js");',
        "const b = import.meta.url;",
        "export default 1;",
        "export let b = 1;",
        "export var b = 1;",
        "export async function b() {}",
        "export const { b } = { b: 1 };",
        "const b = 1;\nexport { b };",
        'export { a } from "./a.js";',
        'export * from "./a.js";',
        "const c = 1;\n  export const b = 1;",
        "const c = 2; export const b = 1;",
    ],
)
def test_any_other_form_is_an_error(line):
    with pytest.raises(LinkError):
        linked(main=line + "\n", a=A)


def test_a_module_is_read_as_it_is_written():
    module = parse("m.js", '// Of importance.\n\nimport { a, b } from "./a.js";\n\nexport const exported = a + b;\n')
    assert module.imports == {"a.js": ("a", "b")}
    assert module.exports == ("exported",)
    assert "const exported = a + b;" in module.code
    assert [each.name for each in modules_of("m.js", {"m.js": A}.__getitem__)] == ["m.js"]
