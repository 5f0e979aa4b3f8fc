"""axe-core finds no serious fault in any kind of page and state."""

import json
import os
from pathlib import Path

import pytest
from conftest import ROOT, page_opener, wait

pytest.importorskip("playwright.sync_api", reason="no playwright: pip install --group dev")
from test_browser import PATH, surface
from test_browser_pictures import checkpoints, eigenvalues

from lossatlas.viewer import GalleryPage, Page, Shown, write_gallery, write_page

AXE = Path(os.environ.get("AXE_CORE", ROOT / "node_modules" / "axe-core")) / "axe.min.js"
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not AXE.exists(), reason="no axe-core (npm install --no-save axe-core; or AXE_CORE=FOLDER)"),
]
RUN = """async () => { const { violations } = await axe.run(document, { resultTypes: ["violations"] });
return violations.map(({ id, impact, nodes }) => [id, impact, nodes.map((node) => node.html.slice(0, 200))]); }"""
SERIOUS = ("serious", "critical")
PHONE = {"size": (390, 844), "has_touch": True, "is_mobile": True}
DARK = {"color_scheme": "dark"}
STATES = {  # page, fragment, clicks, and what the window is like
    "one": ("one", "", (), {}),
    "two": ("two", "#at=60", (), {}),
    "dark": ("two", "#at=60", (), DARK),
    "overlay": ("two", "#overlay=true&at=60", (), {}),
    "large maps": ("two", "#enlarged=true", (), {}),
    "curves": ("curves", "#at=60", (), {}),
    "checkpoints": ("checkpoints", "", (), {}),
    "eigenvalues": ("eigen", "", (), {}),
    "training": ("path", "#epoch=2", (), {}),
    "note and wrong address": ("two", "#vmax=2&elevation=400", (), {}),
    "story": ("two", "", ("#story-open", "#story-next"), {}),
    "dark story": ("two", "", ("#story-open",), DARK),
    "drawer": ("path", "#at=60", ("#drawer-open",), {}),
    "dark drawer": ("two", "#at=60", ("#drawer-open",), DARK),
    "legend": ("one", "#at=60", (".legend [data-name=adam]",), {}),
    "share": ("one", "", ("#share-open",), {}),
    "phone": ("two", "#at=60", (), PHONE),
    "phone, both": ("two", "#at=60", ("#tab-all",), PHONE),
    "phone, dark": ("two", "", ("#tab-1",), PHONE | DARK),
    "phone, drawer": ("two", "", ("#drawer-open",), PHONE),
    "phone, story": ("two", "", ("#story-open",), PHONE),
    "no scene": ("one", "#gl=false", (), {}),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("axe")
    lines = [Shown(surface(gy=None), "line"), Shown(surface(gy=None), "another")]
    made = {
        "one": [Shown(surface(), "one")],
        "two": [Shown(surface(), "smooth"), Shown(surface(f=lambda x, y: 5 + x * x + 2 * y * y), "other")],
        "curves": lines,
        "eigen": [Shown(eigenvalues(), "eigenvalues")],
        "checkpoints": [Shown(checkpoints(), "run")],
        "path": [Shown(surface(), "path", trajectory=PATH)],
    }
    for name, shown in made.items():
        write_page(folder / f"{name}.html", shown)
    frame = Page.of(made["two"])._repr_html_()
    (folder / "notebook.html").write_text(f"<!doctype html><title>notebook</title><body>{frame}</body>")
    write_gallery(folder / "gallery", [GalleryPage("line", "A line", lines, "Two lines.")])
    return folder


def faults(page):
    page.evaluate(AXE.read_text())
    return [each for each in page.evaluate(RUN) if each[1] in SERIOUS]


@pytest.mark.parametrize("name", STATES)
def test_axe_finds_no_serious_fault(browser, pages, name):
    file, fragment, clicks, more = STATES[name]
    with page_opener(browser, pages) as opened:
        page = opened(file, fragment, **more)
        for place in clicks:
            page.locator(place).first.click()
        found = faults(page)
        assert found == [], json.dumps(found, indent=1)


def test_axe_finds_no_serious_fault_in_the_frame_of_a_notebook_and_finds_a_planted_one(browser, pages):
    page = browser.new_page(reduced_motion="reduce")
    page.goto((pages / "notebook.html").as_uri())
    (frame,) = page.main_frame.child_frames
    wait(frame, "window.lossatlas && lossatlas.frameTime !== undefined")
    assert faults(frame) == []
    frame.evaluate("document.getElementById('play').textContent = ''")
    assert [each[0] for each in faults(frame)] == ["button-name"]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_a_gallery(browser, pages, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto((pages / "gallery" / "index.html").as_uri())
    assert faults(page) == []
    page.close()
