"""Volumes on the page in a real browser: the slider, what it changes, the address, keys, and the small slices."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, page_opener, wait

pytest.importorskip("playwright.sync_api", reason="no playwright: pip install --group dev")
from test_browser import middle, pixels, settled, state
from test_browser_axe import PHONE, faults
from test_view_volume import bowl, volume

from lossatlas.viewer import Shown, write_page

AXE = Path(os.environ.get("AXE_CORE", ROOT / "node_modules" / "axe-core")) / "axe.min.js"
Z = volume().grid.z  # -1, -0.375, 0.25, 0.875, 1.5


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    write_page(folder / "volume.html", [Shown(volume(), "a volume")])
    write_page(folder / "plane.html", [Shown(volume().plane_at(0.25), "a plane")])
    write_page(folder / "part.html", [Shown(volume(cells=np.arange(63, 2 * 63)), "part")])
    return folder


@pytest.fixture
def opened(browser, pages):
    with page_opener(browser, pages) as open_page:
        yield open_page


def slide(page, number):
    page.locator("#c-z").fill(str(number))
    wait(page, f"lossatlas.model.state.z === {Z[number]}")
    settled(page)


def value_at(page, x, y):
    """The value that the page reads off at a point."""
    page.evaluate(f"lossatlas.pointAt([{x}, {y}])")
    settled(page)
    return page.locator(".readout").text_content()


def test_the_plane_nearest_to_zero_is_shown_first(opened):
    page = opened("volume")
    assert state(page, "z") == 0.25
    assert page.locator("h1").text_content() == "a volume"
    assert page.locator(".panel h2").text_content() == "z = 0.25"
    assert page.locator("#c-z").get_attribute("aria-valuetext") == "z = 0.25"
    assert page.get_by_role("slider", name="Plane z").count() == 1
    sentence = page.locator("#sentence").text_content()
    assert "on the plane z = 0.25 of a volume" in sentence
    assert "this plane alone (z stays fixed)" in sentence
    assert page.evaluate("location.hash") == ""


@pytest.mark.parametrize("number", [0, 4])
def test_the_slider_changes_what_is_drawn_and_read_off(opened, number):
    page = opened("volume", "#at=0")
    views = (".solid", ".flat", ".cube")
    before = [pixels(page, view) for view in views]
    scale = page.evaluate("[lossatlas.model.scale().low, lossatlas.model.scale().high]")
    bar = pixels(page, ".bar")
    assert f"training loss {bowl(0.5, 0, 0.25):.4g}" in value_at(page, 0.5, 0)
    page.evaluate("lossatlas.pointAt(null)")
    slide(page, number)
    after = [pixels(page, view) for view in views]
    for view, old, new in zip(views, before, after, strict=True):
        assert (np.abs(old - new).max(axis=2) > 24).mean() > 0.01, view
    assert page.evaluate("[lossatlas.model.scale().low, lossatlas.model.scale().high]") == scale
    np.testing.assert_array_equal(pixels(page, ".bar"), bar)
    words = value_at(page, 0.5, 0)
    assert f"training loss {bowl(0.5, 0, Z[number]):.4g}" in words
    assert f"z {Z[number]:g}".replace("-", "−") in words


def test_optimizers_race_on_the_plane_that_is_shown(opened):
    page = opened("volume", "#x=0.9&y=0.8&at=300")
    ends = "lossatlas.race.runs[0].map((run) => [run.losses.at(-1), run.points.at(-2), run.points.at(-1)])"
    for number in (0, 3):
        slide(page, number)
        for loss, x, y in page.evaluate(ends):
            assert loss == pytest.approx(bowl(x, y, Z[number]), rel=1e-3)  # the interpolant is exact on a parabola
        assert page.evaluate("Math.min(...lossatlas.race.runs[0].map((run) => run.losses.at(-1)))") == pytest.approx(
            bowl(0, 0, Z[number]), rel=1e-2
        )


def test_the_address_holds_z_and_restores_it(opened):
    page = opened("volume")
    slide(page, 3)
    assert "z=0.875" in page.evaluate("location.hash")
    again = opened("volume", page.evaluate("location.hash"))
    assert state(again, "z") == 0.875
    assert again.locator("#c-z").input_value() == "3"
    assert again.locator(".planes output").text_content() == "z = 0.875"
    np.testing.assert_array_equal(pixels(again, ".flat"), pixels(page, ".flat"))
    again.evaluate("location.hash = 'z=-1'")
    wait(again, "lossatlas.model.state.z === -1")
    settled(again)
    assert again.locator("#c-z").input_value() == "0"


def test_a_plane_that_is_missing_is_said(opened):
    page = opened("volume", "#z=0.8")
    assert state(page, "z") == 0.875
    assert "z=0.8 (shown: 0.875)" in page.locator("#misread").text_content()
    plane = opened("plane", "#z=0.25")
    assert "z=0.25 (shown: 0)" in plane.locator("#misread").text_content()
    assert plane.locator(".planes, .cube").locator("visible=true").count() == 0


def test_keys_move_through_the_planes(opened):
    page = opened("volume")
    page.locator("#c-z").focus()
    for key, z in (("ArrowRight", 0.875), ("ArrowLeft", 0.25), ("Home", -1), ("End", 1.5)):
        page.keyboard.press(key)
        wait(page, f"lossatlas.model.state.z === {z}")
    page.locator("h1").click()
    for key, z in (("[", 0.875), ("[", 0.25), ("]", 0.875)):
        page.keyboard.press(key)
        wait(page, f"lossatlas.model.state.z === {z}")
    for _ in range(4):  # no plane beyond the last one
        page.keyboard.press("]")
    assert state(page, "z") == 1.5


def test_planes_play_to_the_last_one_and_stop(opened):
    page = opened("volume")
    player = page.get_by_role("button", name="Play through the planes")
    assert player.is_visible()  # on a busy machine, planes may have played before the next look at the page
    clicked = """async () => {
      const [button, frame] = [document.getElementById("planes-play"), () => new Promise(requestAnimationFrame)];
      button.click();
      await frame();
      await frame();
      return button.getAttribute("aria-label");
    }"""
    assert page.evaluate(clicked) == "Stop at this plane"
    wait(page, "lossatlas.model.state.z === 1.5 && lossatlas.planes.waiting === 0")
    settled(page)
    assert page.locator("#planes-play").get_attribute("aria-label") == "Play through the planes"
    page.locator("#planes-play").focus()
    page.keyboard.press("Space")
    wait(page, "lossatlas.model.state.z === 1.5 && lossatlas.planes.waiting === 0")
    page.evaluate("() => { for (const _ of [1, 2]) document.getElementById('planes-play').click(); }")  # on, and off
    page.wait_for_timeout(600)
    assert state(page, "z") == -1  # it began with the first plane


def test_the_story_moves_through_the_volume(opened):
    page = opened("volume")
    page.click("#story-open")
    for _ in range(2):
        page.click("#story-next")
    wait(page, "lossatlas.model.state.z === 1.5")
    assert page.locator("#story-title").text_content() == "A slider goes through it"
    page.click("#story-next")
    wait(page, "lossatlas.model.state.z === 0.25")


def test_the_small_slices_cross_at_the_start(opened):
    page = opened("volume", "#x=0&y=0&at=0")
    before = pixels(page, ".cube")
    page.mouse.click(*middle(page, ".flat canvas", (0.9, 0.1)))
    wait(page, "lossatlas.model.state.x > 0.5")
    assert (np.abs(pixels(page, ".cube") - before).max(axis=2) > 24).mean() > 0.02
    assert "three slices that cross at the start" in page.locator(".cube canvas").get_attribute("aria-label")


def test_planes_without_values_are_empty_and_say_so(opened):
    page = opened("part")
    assert "0 of 63 cells" in page.locator(".note").text_content()
    slide(page, 1)
    assert page.locator(".note").text_content() == ""
    assert f"training loss {bowl(0.5, 0, Z[1]):.4g}" in value_at(page, 0.5, 0)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "window", [{"size": (1440, 900)}, PHONE, {"size": (1440, 900), "color_scheme": "dark"}], ids=str
)
@pytest.mark.parametrize("clicks", [(), ("#drawer-open",), ("#enlarge-0",)], ids=str)
def test_nothing_is_wider_than_the_window_and_nothing_overlaps(opened, window, clicks):
    page = opened("volume", "#at=60", **window)
    for place in clicks:
        page.click(place)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = [
        (name, each.bounding_box())
        for name in (".cube", ".flat", ".alone .legend", ".planes", ".transport", ".bar canvas")
        for each in page.locator(name).all()
        if each.is_visible()
    ]
    for k, (name, a) in enumerate(boxes):
        for other, b in boxes[k + 1 :]:
            apart = a["x"] + a["width"] <= b["x"] + 1 or b["x"] + b["width"] <= a["x"] + 1
            above = a["y"] + a["height"] <= b["y"] + 1 or b["y"] + b["height"] <= a["y"] + 1
            assert apart or above, (name, a, other, b)


@pytest.mark.full
@pytest.mark.skipif(not AXE.exists(), reason="no axe-core (npm install --no-save axe-core; or AXE_CORE=FOLDER)")
@pytest.mark.parametrize("window", [{}, PHONE, {"color_scheme": "dark"}], ids=str)
def test_axe_finds_no_serious_fault(opened, window):
    page = opened("volume", "#at=60&z=0.875", **window)
    found = faults(page)
    assert found == [], json.dumps(found, indent=1)
