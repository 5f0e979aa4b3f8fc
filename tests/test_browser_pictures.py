"""Pictures of the page in a real browser: fingers and wheel, top of the scale, rates, titles of axes, marks, words."""

import html
import re
from functools import partial

import numpy as np
import pytest
from conftest import ROOT, page_opener, wait

pytest.importorskip("playwright.sync_api", reason="no playwright: pip install --group dev")
from test_browser import bowl, middle, pixels, settled, state, surface

from lossatlas.io import read_projection, read_surface
from lossatlas.landscape import Grid, Surface
from lossatlas.viewer import Shown, write_page

PHONE = {"size": (390, 700), "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
RECORD = """
window.written = [];
const own = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (words, x, y) {
  if (this.canvas.className === "labels") {
    const wide = this.measureText(words).width;
    const left = { left: x, center: x - wide / 2, right: x - wide }[this.textAlign];
    window.written.push([words, left, y - 5, left + wide, y + 5]);
  }
  own.call(this, words, x, y);
};
"""
REFUSE = """
history.replaceState = () => { throw new DOMException("refused", "SecurityError"); };
Object.defineProperty(window, "localStorage", { get() { throw new DOMException("refused", "SecurityError"); } });
"""


def one_huge_cell(x, y):
    return np.where((abs(x - 0.5) < 0.01) & (abs(y - 0.5) < 0.01), 1e9, bowl(x, y))


def eigenvalues():
    grid = Grid.parse("-1:1:9", "-1:1:9")
    values = bowl(*np.meshgrid(grid.x, grid.y)).ravel()
    rows = np.stack([values, -0.1 * values], 1)
    return Surface.of_values(grid, ["max_eig", "min_eig"]).with_cells(np.arange(81), rows)


def checkpoints():
    made = Surface.of_values(Grid(np.arange(4.0)), ["train_loss"], request={"path": ["a", "b", "c", "d"]})
    return made.with_cells(np.arange(4), np.array([[3.0], [2.0], [1.5], [1.25]]))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    made = {
        "one": [Shown(surface(), "one")],
        "steeper": [Shown(surface(), "gentle"), Shown(surface(f=lambda x, y: 300 * bowl(x, y)), "steep")],
        "huge": [Shown(surface(f=one_huge_cell), "huge")],
        "eigen": [Shown(eigenvalues(), "eigenvalues")],
        "curve": [Shown(surface(gy=None), "line")],
        "checkpoints": [Shown(checkpoints(), "run")],
        "large": [Shown(surface("-1:1:401", "-1:1:401", one_huge_cell), "large")],
    }
    for name, shown in made.items():
        write_page(folder / f"{name}.html", shown)
    path = read_projection(ROOT / "docs/surfaces/path_projection.h5")
    write_page(folder / "path.html", [Shown(read_surface(ROOT / "docs/surfaces/path.h5"), "path", trajectory=path)])
    return folder


@pytest.fixture
def opened(browser, pages):
    """Opens a page that records its figures, see `page_opener`."""
    with page_opener(browser, pages, (1280, 700)) as open_page:
        yield partial(open_page, script=RECORD)


# Fingers and wheel ------------------------------------------------------------------------------------------------


def camera(page):
    names = ("azimuth", "elevation", "distance", "panx", "pany", "x", "y")
    return {name: state(page, name) for name in names}


def touch(page, *moves):
    """Fingers go down at the first of some places [(x, y), ...], move through the others, and are lifted."""
    session = page.context.new_cdp_session(page)

    def send(kind, places):
        points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", moves[0])
    for places in moves[1:]:
        send("touchMove", places)
        settled(page)
    send("touchEnd", [])
    settled(page)


@pytest.mark.parametrize("view", [".solid", ".flat canvas"])
def test_a_finger_that_swipes_upwards_scrolls_the_page_and_starts_no_race(opened, view):
    page = opened("one", **PHONE)
    before = camera(page)
    x, y = middle(page, view, (0.3, 0.6))
    touch(page, *([(x, y - 12 * k)] for k in range(12)))
    wait(page, "scrollY > 50", 5)
    assert not page.evaluate("lossatlas.race.playing")
    assert state(page, "at") == 0
    assert camera(page) == before


@pytest.mark.full
def test_a_finger_scrolls_a_narrow_page_whichever_surface_it_shows(opened):
    page = opened("steeper", **PHONE)
    for number, tab in ((0, "#tab-0"), (1, "#tab-1"), (1, "#tab-all")):
        page.evaluate("scrollTo(0, 0)")
        page.click(tab)
        settled(page)
        before = camera(page)
        x, y = middle(page, ".solid", (0.3, 0.6), number)
        touch(page, *([(x, y - 12 * k)] for k in range(12)))
        wait(page, "scrollY > 50", 5)
        assert camera(page) == before


@pytest.mark.full
def test_a_finger_turns_sideways_and_drops_a_ball_with_a_tap(opened):
    page = opened("one", "#seconds=300", **PHONE)
    before = camera(page)
    x, y = middle(page, ".solid", (0.3, 0.6))
    touch(page, *([(x + 12 * k, y)] for k in range(8)))
    assert abs(state(page, "azimuth") - before["azimuth"]) > 15
    assert not page.evaluate("lossatlas.race.playing")
    assert page.evaluate("scrollY") == 0
    page.touchscreen.tap(*middle(page, ".solid", (0.5, 0.5)))
    wait(page, "lossatlas.race.playing", 5)
    assert (state(page, "x"), state(page, "y")) != (before["x"], before["y"])


def test_a_tap_on_the_map_drops_a_ball_and_a_sideways_finger_does_not(opened):
    page = opened("one", "#seconds=300", **PHONE)
    before = camera(page)
    x, y = middle(page, ".flat canvas", (0.2, 0.7))
    touch(page, *([(x + 5 * k, y)] for k in range(8)))
    assert not page.evaluate("lossatlas.race.playing")
    assert camera(page) == before
    page.touchscreen.tap(x, y)
    wait(page, "lossatlas.race.playing", 5)
    assert state(page, "x") == pytest.approx(-0.6, abs=0.1)


@pytest.mark.full
def test_two_fingers_zoom_and_move_the_scene_and_start_no_race(opened):
    page = opened("one", **PHONE)
    before = camera(page)
    x, y = middle(page, ".solid", (0.4, 0.5))
    touch(page, *([(x - 20 - 6 * k, y + 3 * k), (x + 20 + 6 * k, y + 3 * k)] for k in range(8)))
    assert state(page, "distance") < before["distance"]
    assert (state(page, "panx"), state(page, "pany")) != (before["panx"], before["pany"])
    assert not page.evaluate("lossatlas.race.playing")
    assert page.evaluate("[scrollY, visualViewport.scale]") == [0, 1]


HINT_WATCHED = """() => {
  window.hintWasShown = false;
  const hint = document.querySelector(".wheel-hint");
  const look = () => { window.hintWasShown ||= !hint.hidden; };
  new MutationObserver(look).observe(hint, { attributes: true });
}"""


def test_the_wheel_scrolls_the_page_and_zooms_only_when_asked_to(opened):
    page = opened("one")
    distance = state(page, "distance")
    page.evaluate(HINT_WATCHED)  # it goes after some seconds
    page.mouse.move(*middle(page, ".solid", (0.4, 0.6)))
    page.mouse.wheel(0, 120)
    wait(page, "scrollY > 50 && hintWasShown", 5)
    assert state(page, "distance") == distance
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(*middle(page, ".solid", (0.4, 0.55)))
    page.keyboard.down("Control")
    page.mouse.wheel(0, 120)
    wait(page, f"lossatlas.model.state.distance > {distance}", 5)
    page.keyboard.up("Control")
    distance = state(page, "distance")
    page.mouse.click(*middle(page, ".solid", (0.4, 0.55)))
    page.mouse.wheel(0, -120)
    wait(page, f"lossatlas.model.state.distance < {distance}", 5)
    assert page.evaluate("scrollY") == 0


# A frame that holds the text of the page --------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("sandbox", ["", 'sandbox="allow-scripts"'])
@pytest.mark.parametrize("refused", [False, True])
def test_every_button_works_in_the_frame_of_a_notebook(browser, pages, tmp_path, sandbox, refused):
    text = html.escape((pages / "one.html").read_text())
    (tmp_path / "frame.html").write_text(f'<iframe {sandbox} width="1200" height="800" srcdoc="{text}"></iframe>')
    context, wrong = browser.new_context(reduced_motion="reduce"), []
    page = context.new_page()
    if refused:
        page.add_init_script(REFUSE)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"file://{tmp_path / 'frame.html'}")
    (frame,) = page.main_frame.child_frames
    wait(frame, "window.lossatlas && lossatlas.frameTime !== undefined")
    for place in ("#forward", "#view-top", "#reset-view"):
        frame.locator(place).click()
    assert frame.evaluate("lossatlas.model.state.at") == 1
    x, y = middle(frame, ".solid", (0.5, 0.5))
    page.mouse.click(x, y)
    wait(frame, "lossatlas.model.state.at > 3")
    frame.locator("#play").click()
    assert not frame.evaluate("lossatlas.race.playing")
    context.close()
    assert wrong == []


# The top of the scale ---------------------------------------------------------------------------------------------


def colours_of(page, view):
    found = pixels(page, view)
    vivid = found[found.max(axis=2) - found.min(axis=2) > 40]
    return len(np.unique(vivid // 16, axis=0))


def test_one_huge_cell_leaves_the_colours_and_heights_of_the_others(opened):
    page = opened("huge")
    assert colours_of(page, ".flat canvas") > 40
    heights = page.evaluate("[[-1, -1], [0, 0]].map(([a, b]) => lossatlas.panels[0].heights.scenePoint(a, b)[2])")
    assert heights[0] - heights[1] > 0.3
    note = page.locator(".note").first.text_content()
    assert "0.23 % of the cells lie above" in note
    assert "1e9" in note
    grey = pixels(page, ".flat canvas")
    for tone in (128, 184):  # both tones of the lid are there
        assert (np.abs(grey - tone).max(axis=2) < 12).sum() > 5
    page = opened("one")
    assert "lie above" not in page.locator(".note").first.text_content()


def test_a_plane_of_many_cells_is_shown_with_its_note(opened):
    page = opened("large")
    note = page.locator(".note").first.text_content()
    assert "<0.01 % of the cells lie above" in note
    assert colours_of(page, ".flat canvas") > 20


@pytest.mark.full
def test_the_slider_rescales_colour_and_height(opened):
    page = opened("one")
    place = "lossatlas.panels[0].heights.scenePoint(0.2, 0.1)[2]"
    height, picture, whole = (
        page.evaluate(place),
        pixels(page, ".flat canvas"),
        page.evaluate("lossatlas.model.scale().high"),
    )
    move = "(e) => { e.value = 0.5; e.dispatchEvent(new Event('input', {bubbles: true})); }"
    page.locator("#c-top").evaluate(move)
    settled(page)
    top = page.evaluate("lossatlas.model.scale().high")
    assert top < whole
    assert state(page, "vmax") == top
    assert page.evaluate(place) > 1.3 * height
    assert np.abs(pixels(page, ".flat canvas") - picture).mean() > 5
    assert "lie above" in page.locator(".note").first.text_content()
    again = opened("one", page.evaluate("location.hash"))
    assert again.evaluate("lossatlas.model.scale().high") == pytest.approx(top, rel=1e-6)
    for wrong in ("-4", "Infinity", "x"):
        assert state(opened("one", f"#vmax={wrong}"), "vmax") == 0


@pytest.mark.full
def test_what_is_above_the_scale_is_a_flat_lid_in_the_scene(opened):
    page = opened("one", "#vmax=0.8&elevation=80")
    heights = page.evaluate(
        "[[-0.9, -0.9], [-0.9, 0.9]].map(([a, b]) => lossatlas.panels[0].heights.scenePoint(a, b)[2])"
    )
    assert heights[0] == heights[1] == pytest.approx(0.85)
    found = pixels(page, ".solid")
    grey = (found.max(axis=2) - found.min(axis=2) < 16) & (found.max(axis=2) > 80) & (found.max(axis=2) < 235)
    assert grey.mean() > 0.15


# The race ---------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_rates_suit_each_surface_and_are_shown(opened):
    page = opened("steeper", "#at=300")
    rates = page.evaluate(
        "[0, 1].map((n) => lossatlas.race.runs[n].map((run) => lossatlas.race.settings(run.optimizer, n).rate))"
    )
    assert rates[0][0] / rates[1][0] == pytest.approx(300, rel=0.1)
    steps = page.evaluate("lossatlas.race.runs[1].map((run) => [run.optimizer.name, run.steps, run.end])")
    assert {name: (count, end) for name, count, end in steps}["sgd"] == (300, "")
    assert float(page.input_value("#r-sgd")) == rates[0][0]
    assert float(page.input_value("#r-sgd-1")) == rates[1][0]
    page.locator("#r-sgd-1").evaluate("(e) => { e.value = 1e-4; e.dispatchEvent(new Event('change')); }")
    assert page.evaluate("[0, 1].map((n) => lossatlas.race.rate(0, n))") == [rates[0][0], 1e-4]


@pytest.mark.full
@pytest.mark.parametrize("view", [".flat canvas", ".solid"])
def test_a_start_is_drawn_only_where_it_means_something(opened, view):
    page = opened("eigen")
    without = pixels(page, view)
    page.evaluate("lossatlas.startAt([-0.5, -0.5])")
    assert np.abs(pixels(page, view) - without).max() == 0  # nothing marks it
    assert "start" not in page.locator(view).get_attribute("aria-label")
    page.evaluate("lossatlas.model.state.cut = true; lossatlas.draw()")
    before = pixels(page, view)
    page.evaluate("lossatlas.startAt([0.5, -0.5])")
    assert np.abs(pixels(page, view) - before).max() > 60  # a cut goes through it
    page = opened("one")
    before = pixels(page, view)
    page.evaluate("lossatlas.startAt([-0.5, -0.5])")
    assert np.abs(pixels(page, view) - before).max() > 60
    assert "start" in page.locator(view).get_attribute("aria-label")


@pytest.mark.full
def test_a_drag_from_a_start_that_is_not_drawn_turns_the_scene(opened):
    page = opened("eigen")
    azimuth = state(page, "azimuth")
    place = page.evaluate(
        """() => { const { scene, heights } = lossatlas.panels[0]; const v = scene.view(), m = v.matrix;
        const { x, y } = lossatlas.model.state; const q = heights.scenePoint(x, y);
        const b = scene.root.getBoundingClientRect();
        const c = [0, 1, 3].map((r) => m[r] * q[0] + m[4 + r] * q[1] + m[8 + r] * q[2] + m[12 + r]);
        return [b.left + (c[0] / c[2] + 1) / 2 * v.width, b.top + (1 - c[1] / c[2]) / 2 * v.height]; }"""
    )
    page.mouse.move(*place)
    page.mouse.down()
    page.mouse.move(place[0] - 60, place[1], steps=4)
    page.mouse.up()
    assert abs(state(page, "azimuth") - azimuth) > 10


def test_no_race_is_offered_on_eigenvalues(opened):
    page = opened("eigen")
    assert "No race here" in page.locator("#remark").text_content()
    assert page.locator("#play").is_disabled()
    page.click("#drawer-open")
    assert page.locator("#c-height").is_visible()
    assert page.locator("#c-steps").is_hidden()
    assert page.locator("#usual").is_hidden()
    page.click("#drawer-close")
    page.mouse.click(*middle(page, ".flat canvas", (0.7, 0.3)))
    page.keyboard.press("Space")
    settled(page)
    assert not page.evaluate("lossatlas.race.playing")
    assert page.evaluate("lossatlas.race.runs.flat().length") == 0
    page = opened("one", "#height=train_acc")
    assert "No race here" in page.locator("#remark").text_content()


@pytest.mark.full
@pytest.mark.parametrize(("name", "fragment"), [("checkpoints", ""), ("curve", "#height=train_acc"), ("curve", "")])
@pytest.mark.parametrize("size", [(1280, 700), (390, 700)])
def test_curves_fill_their_panel_with_and_without_a_race(opened, name, fragment, size):
    page = opened(name, fragment, size)
    box, panel = (page.locator(each).first.bounding_box() for each in (".flat canvas", ".panel"))
    assert box["width"] > 0.7 * panel["width"]
    assert box["height"] > 150
    assert page.evaluate("lossatlas.panels[0].plane.chart !== null")


def test_no_race_is_offered_along_numbers_of_checkpoints(opened):
    page = opened("checkpoints")
    assert "No race here: x counts checkpoints" in page.locator("#remark").text_content()
    assert page.locator("#play").is_disabled()
    page.mouse.click(*middle(page, ".flat canvas", (0.7, 0.3)))
    page.keyboard.press("Space")
    settled(page)
    assert page.evaluate("lossatlas.race.runs.flat().length") == 0
    page.locator("#story-open").click()
    titles = [page.locator("#story-title").text_content()]
    for _ in range(2):
        page.locator("#story-next").click()
        titles.append(page.locator("#story-title").text_content())
    assert titles == ["What is this line?", "Checkpoints in their order", "What it does not show"]
    assert not page.evaluate("lossatlas.race.playing")


@pytest.mark.full
def test_paths_are_told_apart_from_the_map_and_from_each_other(opened):
    page = opened("one", "#at=40&enlarged=true")
    marks = page.evaluate(
        "lossatlas.race.runs[0].map((run) => [run.optimizer.color, JSON.stringify(run.optimizer.mark)])"
    )
    assert len({color for color, _ in marks}) == len({mark for _, mark in marks}) == 8
    for name, color in page.evaluate("lossatlas.race.runs[0].map((run) => [run.optimizer.name, run.optimizer.color])"):
        page.evaluate("(name) => { lossatlas.model.state.on = [name]; lossatlas.restart(); }", name)
        found = pixels(page, ".flat canvas")
        wanted = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
        own = np.abs(found - wanted).max(axis=2) < 12
        assert own.sum() > 60, name
        white = np.pad(found.min(axis=2) > 235, 3)
        near = sum(np.roll(white, (a, b), (0, 1)) for a in range(-3, 4) for b in range(-3, 4)) > 0
        assert near[3:-3, 3:-3][own].mean() > 0.5, name  # a halo


# Axes and words ---------------------------------------------------------------------------------------------------


def overlap(a, b):
    return min(a[3], b[3]) - max(a[1], b[1]) > 1 and min(a[4], b[4]) - max(a[2], b[2]) > 1


@pytest.mark.full
@pytest.mark.parametrize("name", ["one", "path"])
def test_titles_of_axes_are_whole_and_clear_of_ticks(opened, name):
    page = opened(name)
    for azimuth in (-60, -88, 10, 100):
        for distance in (2.6, 4.6, 9):
            view = {"azimuth": azimuth, "distance": distance}
            page.evaluate(
                "(view) => { window.written.length = 0; Object.assign(lossatlas.model.state, view); "
                "lossatlas.draw(); }",
                view,
            )
            settled(page)
            written = page.evaluate("window.written")
            width, height = page.evaluate(
                "[lossatlas.panels[0].scene.root.clientWidth, lossatlas.panels[0].scene.root.clientHeight]"
            )
            assert len(written) > 3
            for k, each in enumerate(written):
                assert each[1] > -1, (view, each)
                assert each[3] < width + 1, (view, each)
                assert -1 < each[2] < each[4] < height + 1, (view, each)
                for other in written[:k]:
                    assert not overlap(each, other), (view, each, other)


@pytest.mark.full
def test_principal_components_have_their_names(opened):
    page = opened("path")
    assert any("84 %" in each[0] for each in page.evaluate("window.written"))
    assert "x" not in [each[0] for each in page.evaluate("window.written")]


@pytest.mark.full
def test_the_words_are_plain(opened):
    for name in ("one", "steeper", "curve", "eigen"):
        text = opened(name).evaluate(
            "document.body.textContent.replace(document.querySelector('script').textContent, '')"
        )
        assert not re.search("the paper's|Who arrives where|met unknown cells|computed cells", text)
