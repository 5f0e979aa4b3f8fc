"""The table of deliberate faults follows the code and the tests."""

from conftest import ROOT
from mutants import MUTANTS


def test_each_text_that_a_fault_replaces_stands_once_in_its_file():
    assert [each.name for each in MUTANTS if (ROOT / each.file).read_text().count(each.old) != 1] == []


def test_the_tests_of_each_fault_exist():
    assert {
        name for each in MUTANTS for name in each.tests if not (ROOT / "tests" / f"test_{name}.py").exists()
    } == set()
