"""The page in a real browser, headless, from file://, with WebGL by software: its parts, and what each control does."""

import html
import io

import numpy as np
import pytest
from conftest import page_opener, wait
from PIL import Image

from lossatlas.io import Projection
from lossatlas.landscape import Grid, Surface
from lossatlas.viewer import Page, Shown, write_page

pytest.importorskip("playwright.sync_api", reason="no playwright: pip install --group dev")
full = pytest.mark.full
NO_WEBGL = """
const own = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === "webgl2" ? null : own.call(this, kind, ...rest);
};
"""


def bowl(x, y):
    return 0.05 + 3 * x * x + y * y + 0.3 * np.sin(5 * x) * np.cos(4 * y) + 0.3


def surface(gx="-1:1:21", gy="-1:1:21", f=bowl, cells=None):
    grid = Grid.parse(gx, gy)
    x, y = np.meshgrid(grid.x, [0.0] if grid.y is None else grid.y)
    values = f(x, y).ravel()
    rows = np.stack([values, 100 / (1 + np.abs(values)), np.full(values.shape, 0.01)], 1)
    empty = Surface.of_values(
        grid, ["train_loss", "train_acc", "train_loss_se"], request={"model": "a <b>bold</b> one"}
    )
    cells = np.arange(grid.size) if cells is None else cells
    return empty.with_cells(cells, rows[cells])


def ravine(x, y):
    """A valley through (0.3, 0.2) along 30 degrees."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    along, across = c * (x - 0.3) + s * (y - 0.2), -s * (x - 0.3) + c * (y - 0.2)
    return 0.1 + 0.3 * along**2 + 30 * across**2


def two_losses(factor):
    """A curve with two losses and an accuracy."""
    grid = Grid.parse("-1:1:21")
    values = factor * (0.1 + grid.x**2)
    empty = Surface.of_values(grid, ["train_loss", "test_loss", "train_acc"])
    return empty.with_cells(range(grid.size), np.stack([values, 1.5 * values, 90 - 10 * values], 1))


TOWER = 0.5, 0.3  # a cell
T = np.linspace(0, 1, 6)
PATH = Projection(
    0.9 * (1 - T), 0.8 * (1 - T) ** 2, 10 * np.arange(6.0), bowl(0.9 * (1 - T), 0.8 * (1 - T) ** 2) + 0.4, 3 - 3 * T
)


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")

    def odd(x, y):
        values = np.where((x > 0.4) & (y > 0.4), np.inf, bowl(x, y))
        return np.where((x < -0.8) & (y < -0.8), np.nan, values)

    def tower(x, y):
        return np.where(np.hypot(x - TOWER[0], y - TOWER[1]) < 0.01, 1e6, 5 + bowl(x, y))

    made = {
        "tower": [Shown(surface(f=tower), "tower")],
        "one": [Shown(surface(), "one", trajectory=PATH)],
        "two": [Shown(surface(), "smooth"), Shown(surface(f=lambda x, y: 5 + bowl(y, x)), "<i>other</i>")],
        "curve": [Shown(surface(gy=None), "line")],
        "curves": [Shown(two_losses(1), "first"), Shown(two_losses(3), "second")],
        "ravine": [Shown(surface(f=ravine), "ravine")],
        "wide": [Shown(surface("-2:6:31", "-1:0.5:9", lambda x, y: x * x - 4 * x + 6 * y * y + 3), "wide")],
        "odd": [Shown(surface(f=odd), "odd")],
        "unfinished": [Shown(surface(cells=Grid.parse("-1:1:21", "-1:1:21").coarse_first()[:150]), "part")],
    }
    for name, shown in made.items():
        write_page(folder / f"{name}.html", shown)
    return folder


@pytest.fixture
def opened(browser, pages):
    """Opens a page, see `page_opener`; drawer: with its controls."""
    with page_opener(browser, pages) as open_page:

        def with_drawer(*words, drawer=False, **more):
            page = open_page(*words, **more)
            if drawer:
                page.click("#drawer-open")
            return page

        yield with_drawer


def settled(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def state(page, name):
    return page.evaluate("(name) => lossatlas.model.state[name]", name)


def pixels(page, selector, which=0):
    settled(page)
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).nth(which).screenshot())).convert("RGB")).astype(int)


def middle(page, selector, share=(0.5, 0.5), which=0):
    box = page.locator(selector).nth(which).bounding_box()
    return box["x"] + share[0] * box["width"], box["y"] + share[1] * box["height"]


def test_the_surface_is_there_with_its_colours(opened):
    page = opened("one")
    found = pixels(page, ".solid")
    colours = np.unique((found // 16).reshape(-1, 3), axis=0)
    assert len(colours) > 150  # a shaded surface, and not a flat ground
    share = (found.max(axis=2) - found.min(axis=2) > 40).mean()
    assert 0.15 < share < 0.8
    flat = pixels(page, ".flat")
    assert (flat.max(axis=2) - flat.min(axis=2) > 40).mean() > 0.3
    assert "a <b>bold</b> one" in page.locator(".caption").first.text_content()
    assert "slice" in page.locator("header").text_content()


@pytest.mark.parametrize(
    ("view", "share"), [(".solid", (0.62, 0.42)), pytest.param(".flat canvas", (0.8, 0.3), marks=full)]
)
def test_a_click_starts_a_race_that_ends_lower(opened, view, share):
    page = opened("one", "#seconds=1")
    before = [state(page, "x"), state(page, "y")]
    page.mouse.click(*middle(page, view, share))
    wait(page, "lossatlas.model.state.at > 0")
    assert [state(page, "x"), state(page, "y")] != before
    wait(page, "!lossatlas.race.playing")
    races = page.evaluate(
        "lossatlas.race.runs[0].map((run) => [run.losses[0], run.losses[run.losses.length - 1], run.end])"
    )
    assert len(races) == 8
    assert all(last < first for first, last, _ in races)
    assert page.locator("#results tbody tr").count() == 8
    assert page.locator("#play").text_content() == "Play"


@pytest.mark.few(1)
@pytest.mark.parametrize("start", [(0.65, 0.3), (0.5, 0.15), (0.63, 0.43)], ids=str)
def test_balls_beside_a_cell_that_differs_descend_what_is_drawn(opened, start):
    """Beside it an interpolant can swing below all cells: a pit that nobody sees and that was never computed."""
    page = opened("tower", f"#x={start[0]}&y={start[1]}&seconds=1")
    assert page.evaluate("lossatlas.model.surfaces[0].fields.train_loss.values").count(1e6) == 1
    page.click("#play")
    wait(page, "!lossatlas.race.playing && lossatlas.model.state.at > 0")
    races = page.evaluate("lossatlas.race.shownOn(0).map((run) => Array.from(run.losses))")
    assert len(races) == 8
    known = 5 + bowl(*np.meshgrid(np.linspace(-1, 1, 201), np.linspace(-1, 1, 201)))
    assert min(min(losses) for losses in races) > known.min() - 0.02
    found = page.evaluate("""() => {
      const { heights } = lossatlas.panels[0];
      return lossatlas.race.shownOn(0).map((run) => {
        const ball = heights.scenePoint(run.points[2 * run.shown], run.points[2 * run.shown + 1]);
        const told = Math.min(1, heights.scale.height(run.losses[run.shown]));
        return [heights.zAt(ball[0], ball[1]) / 0.85, ball[2] / 0.85, told];
      });
    }""")
    drawn, balls, told = np.transpose(found)
    np.testing.assert_allclose(balls, drawn, atol=1e-9)
    np.testing.assert_allclose(told, drawn, atol=1e-9)  # the loss in the legend is the height of the ball


@pytest.mark.full
def test_the_surface_turns_while_they_run(opened):
    page = opened("one", "#seconds=300")
    page.click("#play")
    before, azimuth = pixels(page, ".solid"), state(page, "azimuth")
    x, y = middle(page, ".solid", (0.3, 0.8))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 120, y - 30, steps=6)
    assert page.evaluate("lossatlas.race.playing")
    page.mouse.up()
    assert page.evaluate("lossatlas.race.playing")
    assert abs(state(page, "azimuth") - azimuth) > 20
    assert np.abs(pixels(page, ".solid") - before).mean() > 2
    at = state(page, "at")
    wait(page, f"lossatlas.model.state.at > {at}")


@pytest.mark.full
def test_dragging_the_start_moves_it(opened):
    page = opened("one", "#x=0.3&y=0.3")
    place = page.evaluate(
        """() => { const p = lossatlas.panels[0]; const v = p.scene.view();
        const b = p.scene.root.getBoundingClientRect();
        const [x, y] = toScreenForTest(v, p); return [x + b.left, y + b.top];
        function toScreenForTest(v, p) { const q = p.heights.scenePoint(0.3, 0.3), m = v.matrix;
          const c = [0, 1, 3].map((r) => m[r] * q[0] + m[4 + r] * q[1] + m[8 + r] * q[2] + m[12 + r]);
          return [(c[0] / c[2] + 1) / 2 * v.width, (1 - c[1] / c[2]) / 2 * v.height]; } }"""
    )
    azimuth = state(page, "azimuth")
    page.mouse.move(*place)
    page.mouse.down()
    page.mouse.move(place[0] - 40, place[1] + 10, steps=4)
    page.mouse.up()
    assert state(page, "azimuth") == azimuth
    assert state(page, "x") != pytest.approx(0.3, abs=0.02)


@pytest.mark.full
def test_the_same_point_lights_up_in_both_views_and_is_read_off(opened):
    page = opened("two")
    first, second = pixels(page, ".solid", 0), pixels(page, ".flat", 1)
    page.mouse.move(*middle(page, ".flat canvas", (0.5, 0.4)))
    settled(page)
    assert np.abs(pixels(page, ".solid", 0) - first).max() > 60
    assert np.abs(pixels(page, ".flat", 1) - second).max() > 60
    x, y = page.evaluate("lossatlas.model.hover")
    words = page.locator(".readout").first.text_content()
    assert words.startswith("x ")
    shown = float(words.split("training loss ")[1].split(";")[0])
    assert shown == pytest.approx(bowl(x, y), rel=5e-3)
    assert "training accuracy" in words
    assert "± 0.01 (standard error" in words
    page.mouse.move(*middle(page, ".solid", (0.5, 0.5), 1))
    assert page.evaluate("lossatlas.model.hover") is not None


CONTROLS = [  # control, what is done, what the state then is, which view changes
    ("#c-scale", "linear", ("scale", "linear"), ".solid"),
    ("#c-colour", "train_acc", ("colour", "train_acc"), ".solid"),
    ("#c-map", "magma", ("map", "magma"), ".solid"),
    ("#c-theme", "dark", ("theme", "dark"), ".solid"),
    ("#c-lines", None, ("lines", False), ".solid"),
    ("#c-wire", None, ("wire", True), ".solid"),
    ("#c-height", "train_acc", ("height", "train_acc"), ".solid"),  # on which there is no race
    ("#c-height", "train_loss", ("height", "train_loss"), ".solid"),
    ("#c-cut", None, ("cut", True), ".flat"),
    ("#c-objective", "log", ("objective", "log"), None),
    ("#c-steps", "120", ("steps", 120), None),
    ("#c-noise", "0.5", ("noise", 0.5), None),
    ("#c-seed", "7", ("seed", 7), None),
    ("#r-adam", "0.1", None, None),
    ("#s-sam-rho", "0.2", None, None),
]


QUICK = {"#c-scale", "#c-lines", "#c-cut", "#c-objective", "#c-noise", "#c-seed", "#r-adam"}  # each kind of control


@pytest.mark.full
@pytest.mark.parametrize(
    "controls",
    [
        pytest.param([each for each in CONTROLS if each[0] in QUICK], id="quick"),
        pytest.param(CONTROLS, marks=full, id="all"),
    ],
)
def test_every_control_changes_what_it_says(opened, controls):
    page = opened("one", "#at=100", drawer=True)
    races = "JSON.stringify(lossatlas.race.runs[0].map((run) => Array.from(run.points)))"
    for control, value, becomes, view in controls:
        before, address = pixels(page, view) if view else page.evaluate(races), page.evaluate("location.hash")
        if value is None:
            page.locator(control).click()
        elif page.locator(control).evaluate("(e) => e.tagName") == "SELECT":
            page.select_option(control, value)
        else:
            page.fill(control, value)
            page.keyboard.press("Tab")
        settled(page)
        if becomes:
            assert state(page, becomes[0]) == becomes[1], control
        if view:
            after = pixels(page, view)  # the scene is higher where the legend of a race is not there
            assert after.shape != before.shape or np.abs(after - before).max() > 30, control
        else:
            assert page.evaluate(races) != before, control
        assert page.evaluate("location.hash") != address, control


SLIDERS = [
    ("x", -0.5, ".flat"),
    ("y", 0.1, ".flat"),
    ("top", 0.5, ".solid"),  # a share of the scale, the state holds the value
    ("at", 50, ".flat"),
    ("angle", 45, ".flat"),
    ("epoch", 3, ".flat"),
]


@pytest.mark.full
@pytest.mark.parametrize(
    "sliders", [pytest.param(SLIDERS[::2], id="quick"), pytest.param(SLIDERS[1::2], marks=full, id="others")]
)
def test_sliders(opened, sliders):
    page = opened("one", "#at=100", drawer=True)
    for control, value, view in sliders:
        before = pixels(page, view)
        move = "(e, value) => { e.value = value; e.dispatchEvent(new Event('input', {bubbles: true})); }"
        page.locator(f"#c-{control}").evaluate(move, value)
        settled(page)
        own = "lossatlas.model.wholeScale().height(lossatlas.model.state.vmax)" if control == "top" else None
        found = page.evaluate(own) if own else state(page, control)
        assert found == pytest.approx(value, abs=0.01)
        assert np.abs(pixels(page, view) - before).max() > 30, control


@pytest.mark.full
def test_optimizers_are_switched_off_and_set_back(opened):
    page = opened("one", "#at=100", drawer=True)
    page.uncheck("#o-adam")
    settled(page)
    assert page.evaluate("lossatlas.race.runs[0].map((run) => run.optimizer.name)") == [
        "sgd", "momentum", "nesterov", "rmsprop", "adamw", "nadam", "sam",
    ]  # fmt: skip
    page.fill("#r-sgd", "0.5")
    page.keyboard.press("Tab")
    assert page.evaluate("lossatlas.race.settings(lossatlas.race.runs[0][0].optimizer).rate") == 0.5
    page.click("#usual")
    assert page.evaluate("lossatlas.race.settings(lossatlas.race.runs[0][0].optimizer).rate") != 0.5
    page.fill("#c-steps", "-3")
    page.keyboard.press("Tab")
    assert state(page, "steps") == 300  # what makes no sense is not taken
    assert page.input_value("#c-steps") == "300"


@pytest.mark.full
def test_play_pause_step_and_rewind(opened):
    page = opened("one", "#seconds=60")
    page.click("#forward")
    assert state(page, "at") == 1
    page.click("#forward")
    page.click("#back")
    assert state(page, "at") == 1
    page.click("#play")
    wait(page, "lossatlas.model.state.at > 5")
    page.click("#play")
    assert not page.evaluate("lossatlas.race.playing")
    page.click("#rewind")
    assert state(page, "at") == 0


def reach(page, condition):
    """Press Tab until a condition holds."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate(condition):
            return
    raise AssertionError(f"no Tab leads to {condition}")


def test_keyboard_only(opened):
    page = opened("one", "#seconds=300")
    page.keyboard.press("Space")
    assert page.evaluate("lossatlas.race.playing")
    page.keyboard.press("Space")
    page.keyboard.press("r")
    page.keyboard.press(".")
    page.keyboard.press(".")
    page.keyboard.press(",")
    assert state(page, "at") == 1
    reach(page, "document.activeElement.className === 'solid'")
    azimuth, elevation = state(page, "azimuth"), state(page, "elevation")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert (state(page, "azimuth"), state(page, "elevation")) == (azimuth + 5, elevation + 5)
    distance = state(page, "distance")
    page.keyboard.press("+")
    assert state(page, "distance") < distance
    reach(page, "document.activeElement.tagName === 'CANVAS'")
    x = state(page, "x")
    page.keyboard.press("ArrowLeft")
    assert state(page, "x") == pytest.approx(x - 0.04)
    page.locator("#drawer-open").focus()
    page.keyboard.press("Enter")
    reach(page, "document.activeElement.id === 'usual'")  # every control is reached


@pytest.mark.full
def test_the_address_holds_the_state(opened):
    page = opened("two", "#seconds=300", drawer=True)
    page.select_option("#c-map", "magma")
    page.uncheck("#o-sgd")
    page.check("#c-overlay")
    page.mouse.click(*middle(page, ".flat canvas", (0.5, 0.3)))
    page.click("#play")
    page.click("#forward")
    fragment = page.evaluate("location.hash")
    again = opened("two", fragment)
    for name in ("map", "on", "overlay", "at"):
        assert state(again, name) == state(page, name)
    assert state(again, "x") == pytest.approx(state(page, "x"), rel=1e-6)
    wrong = opened("two", "#map=none&height=evil&x=1e9&steps=1e12&on=what&scale=%3Cb%3E&rates=1&theme=pink&top=-4")
    assert state(wrong, "map") == "viridis"
    assert state(wrong, "x") == 1
    assert state(wrong, "steps") == 5000


def test_the_browser_goes_back_to_an_earlier_address(opened):
    page = opened("one", "#map=magma")
    page.evaluate("location.hash = '#map=cividis'")
    wait(page, "lossatlas.model.state.map === 'cividis'")
    page.evaluate("history.back()")
    wait(page, "lossatlas.model.state.map === 'magma'")


@pytest.mark.few(1)
@pytest.mark.parametrize("sandbox", ["", 'sandbox="allow-scripts"'])
def test_it_works_in_a_frame_that_holds_its_text(browser, pages, tmp_path, sandbox):
    text = html.escape((pages / "one.html").read_text())
    (tmp_path / "frame.html").write_text(f'<iframe {sandbox} width="1200" height="800" srcdoc="{text}"></iframe>')
    context, wrong = browser.new_context(), []
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"file://{tmp_path / 'frame.html'}")
    (frame,) = page.main_frame.child_frames
    frame.locator("#forward").click()
    frame.locator("#drawer-open").click()
    frame.select_option("#c-map", "magma")
    assert frame.evaluate("[lossatlas.model.state.at, location.hash]") == [1, "#map=magma&at=1"]
    frame.locator("#rewind").click()
    assert frame.evaluate("[lossatlas.model.state.at, location.hash]") == [0, "#map=magma"]
    context.close()
    assert wrong == []


REFUSE = """
history.replaceState = () => { throw new DOMException("the address of this frame cannot change", "SecurityError"); };
"""


@pytest.mark.full
@pytest.mark.parametrize("refused", [False, True], ids=["changes", "refused"])
@pytest.mark.parametrize("origin", ["file", "http"])
def test_the_page_of_a_notebook_works_where_its_address_cannot_change(browser, tmp_path, origin, refused):
    """Some browsers refuse to change the address of a frame that holds its text, so that no button did anything."""
    shown = Page.of([Shown(surface(), "one", trajectory=PATH)], height=700)._repr_html_()
    text = f"<!doctype html><title>notebook</title><body>{shown}</body>"
    (tmp_path / "notebook.html").write_text(text)
    context, wrong = browser.new_context(accept_downloads=True), []
    if refused:
        context.add_init_script(REFUSE)
    context.route("http://notebook.test/*", lambda route: route.fulfill(body=text, content_type="text/html"))
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"file://{tmp_path / 'notebook.html'}" if origin == "file" else "http://notebook.test/tree#cell")
    (frame,) = page.main_frame.child_frames
    wait(frame, "window.lossatlas && lossatlas.frameTime !== undefined")
    before = page.url
    frame.locator("#forward").click()
    frame.locator("#drawer-open").click()
    frame.select_option("#c-map", "magma")
    assert frame.evaluate("[lossatlas.model.state.at, lossatlas.model.state.map]") == [1, "magma"]
    assert frame.evaluate("location.hash") == ("" if refused else "#map=magma&at=1")
    assert not frame.evaluate("lossatlas.address.isForeign")
    frame.locator("#play").click()
    wait(frame, "lossatlas.model.state.at > 3")
    frame.locator("#rewind").click()
    assert frame.evaluate("lossatlas.model.state.at") == 0
    with page.expect_download() as picture:
        frame.locator("#picture").click()
    assert picture.value.suggested_filename.endswith(".png")
    assert page.url == before
    context.close()
    assert wrong == []


@pytest.mark.parametrize(
    "fragment",
    [
        "#scale=__proto__",
        *(pytest.param(each, marks=full) for each in ("#scale=toString", "#map=constructor", "#height=__proto__")),
    ],
)
def test_no_address_breaks_the_page(opened, fragment):
    page = opened("one", fragment)
    assert page.locator(".solid").count() == 1
    assert state(page, "scale") in ("linear", "log", "soft")


def test_what_is_no_loss_has_no_race(opened):
    page = opened("one", "#height=train_acc&at=300")
    assert "optimizers descend a loss" in page.locator("#remark").text_content()
    assert page.evaluate("lossatlas.race.runs[0].length") == 0
    for selector in ("#play", "#drop-hint", ".legend"):
        assert boxes_of(page, selector) == [], selector
    assert "balls" not in page.locator("#sentence").text_content()
    assert page.locator("#view-top").is_visible()


def test_what_is_not_taken_is_said(opened):
    page = opened("one", drawer=True)
    page.fill("#c-steps", "100000")
    page.keyboard.press("Tab")
    assert "from 1 to 5000" in page.locator(".complaint").text_content()


@pytest.mark.full
def test_two_models_turn_together_and_lie_over_each_other(opened):
    page = opened("two", drawer=True)
    assert page.locator(".solid").count() == 2
    before = pixels(page, ".solid", 1)
    x, y = middle(page, ".solid", (0.3, 0.8), 0)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 100, y, steps=4)
    page.mouse.up()
    assert np.abs(pixels(page, ".solid", 1) - before).mean() > 1
    assert page.locator("h2").nth(1).text_content() == "<i>other</i>"
    page.check("#c-overlay")
    settled(page)
    assert page.locator(".stage .solid").is_visible()
    assert page.locator(".stage .names").text_content() == "smooth<i>other</i>"
    found = pixels(page, ".stage .solid")
    blue = (found[..., 2] > found[..., 0] + 30).mean()
    orange = (found[..., 0] > found[..., 2] + 30).mean()
    assert blue > 0.03
    assert orange > 0.03
    page.uncheck("#c-overlay")
    settled(page)
    assert page.locator(".panel .solid").count() == 2


def test_the_path_of_a_training_is_walked(opened):
    page = opened("one", drawer=True)
    words = page.locator("#walk").text_content()
    assert "epoch 0" in words
    assert f"its own loss {bowl(0.9, 0.8) + 0.4:.4g}" in words
    assert "distance from the plane 3" in words
    page.locator("#c-epoch").focus()
    page.keyboard.press("End")
    settled(page)
    assert "epoch 50" in page.locator("#walk").text_content()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.locator("#from-checkpoint").click()
    assert [state(page, "x"), state(page, "y")] == [PATH.x[1], PATH.y[1]]


def test_what_is_not_known_is_shown_as_such(opened):
    page = opened("odd")
    assert "cells are not finite" in page.locator(".note").text_content()
    red = pixels(page, ".flat")
    assert ((red[..., 0] > 190) & (red[..., 1] < 80) & (red[..., 2] < 80)).sum() > 100
    page.mouse.move(*middle(page, ".flat canvas", (0.72, 0.15)))
    assert "training loss ∞" in page.locator(".readout").text_content()
    page = opened("unfinished")
    assert "150 of 441 cells" in page.locator(".note").text_content()


def test_a_curve_is_descended_too(opened):
    page = opened("curve", "#seconds=1")
    assert page.locator(".solid").count() == 0
    page.mouse.click(*middle(page, ".flat canvas", (0.8, 0.5)))
    wait(page, "!lossatlas.race.playing")
    ends = page.evaluate("lossatlas.race.runs[0].map((run) => [run.losses[0], run.losses[run.losses.length - 1]])")
    assert all(last < first for first, last in ends)
    found = pixels(page, ".flat")
    assert (found.max(axis=2) - found.min(axis=2) > 60).sum() > 300


def test_a_plane_that_is_wide_keeps_its_shape(opened):
    page = opened("wide", "#seconds=1")
    frame = page.evaluate("lossatlas.panels[0].plane.frame()")
    assert frame["width"] / frame["height"] == pytest.approx(3, rel=0.01)  # 8 : 1.5, at most 3
    page.mouse.click(*middle(page, ".flat canvas", (0.9, 0.5)))
    wait(page, "!lossatlas.race.playing")


def test_on_a_phone(opened):
    page = opened("one", size=(390, 844), has_touch=True, is_mobile=True, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".solid").bounding_box()["width"] > 340
    page.touchscreen.tap(*middle(page, ".flat canvas", (0.7, 0.3)))
    wait(page, "lossatlas.model.state.at > 3")
    assert page.locator("#play").bounding_box()["height"] >= 40
    assert page.locator(".transport").is_visible()


SCREENS = [(1440, 900), (1280, 720), (390, 844)]


def boxes_of(page, *selectors):
    """The boxes [left, top, right, bottom] of all visible elements that selectors find."""
    return page.evaluate(
        """(selectors) => selectors.flatMap((s) => [...document.querySelectorAll(s)])
        .filter((e) => e.checkVisibility({ visibilityProperty: true })).map((e) => e.getBoundingClientRect())
        .filter((b) => b.width > 0).map((b) => [b.left, b.top, b.right, b.bottom])""",
        list(selectors),
    )


@pytest.mark.full
@pytest.mark.parametrize("size", SCREENS, ids=str)
@pytest.mark.parametrize("name", ["one", "two", pytest.param("curve", marks=full)])
def test_the_first_screen_says_what_is_shown_and_what_one_may_do(opened, name, size):
    page = opened(name, size=size, **({"has_touch": True, "is_mobile": True} if size[0] < 500 else {}))
    words = [
        ("h1", 1),
        ("#sentence", 1),
        ("#coordinates", 1),
        ("#actions button", 4),
        (".legend button", 8),
        ("#drop-hint", 1),
        ("#play", 1),
    ]
    if name == "two":
        words.append((".tabs button", 3) if size[0] < 500 else (".panel h2", 2))
    if name != "curve":
        words += [(".solid", 1), (".flat", 1), (".bar canvas", 1), ("#view-ravine", 1)]
    for selector, least in words:
        boxes = boxes_of(page, selector)
        assert len(boxes) >= least, selector
        for left, top, right, bottom in boxes:
            assert -1 <= left < right <= size[0] + 1, selector
            assert -1 <= top < bottom <= size[1] + 1, selector
    assert "slice" in page.locator("#sentence").text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    (bar,) = boxes_of(page, ".transport")
    for _, top, _, bottom in boxes_of(page, "h1, #sentence, .panel, .bar, .legend, .readout, .details"):
        assert bottom <= bar[1] + 1 or top >= bar[3] - 1  # nothing lies under the bar of the race


def test_surfaces_stand_side_by_side_or_one_below_the_other_and_share_one_bar(opened):
    left, right = boxes_of(opened("two", size=(1440, 900)), ".panel")
    assert left[1] == right[1]
    assert left[2] <= right[0] + 1
    page = opened("two", size=(390, 844))
    page.click("#tab-all")
    settled(page)
    upper, lower = boxes_of(page, ".panel")
    assert upper[0] == lower[0]
    assert upper[3] <= lower[1] + 1
    assert len(boxes_of(page, ".bar canvas")) == 1


@pytest.mark.full
def test_a_narrow_page_shows_one_surface_large_and_another_on_demand(opened):
    page = opened("two", "#at=60", size=(390, 844), has_touch=True, is_mobile=True)

    def shown():
        return [page.locator(".solid").nth(k).is_visible() for k in range(2)]

    assert page.locator(".tabs button").all_text_contents() == ["smooth", "<i>other</i>", "both"]
    assert shown() == [True, False]
    assert page.locator(".solid").first.bounding_box()["width"] >= 340
    assert len(boxes_of(page, ".legend button")) == 8  # one legend, of this surface
    page.click("#tab-1")
    settled(page)
    assert shown() == [False, True]
    assert page.locator("#tab-1").get_attribute("aria-pressed") == "true"
    assert page.locator("#tab-0").get_attribute("aria-pressed") == "false"
    assert len(np.unique((pixels(page, ".solid", 1) // 16).reshape(-1, 3), axis=0)) > 100
    losses = page.locator(".panel").nth(1).locator(".legend .loss").all_text_contents()
    own = page.evaluate("lossatlas.race.shownOn(1).map((run) => run.losses[run.shown])")
    assert [float(text) for text in losses] == pytest.approx(own, rel=6e-3)
    page.click("#tab-all")
    settled(page)
    assert shown() == [True, True]
    assert len(boxes_of(page, ".legend button")) == 8
    page.set_viewport_size({"width": 1000, "height": 700})  # as when a tablet is turned
    wait(page, "lossatlas.stage.list.clientWidth > 900")
    assert boxes_of(page, ".tabs") == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("#tab-0")
    page.set_viewport_size({"width": 1000, "height": 700})
    settled(page)
    assert shown() == [True, True]


def test_the_first_step_about_a_surface_shows_it_on_a_narrow_page(opened):
    page = opened("two", size=(390, 844))
    page.evaluate("lossatlas.story.bringIntoView(1)")
    settled(page)
    assert page.locator(".solid").nth(1).is_visible()
    assert page.locator(".solid").first.is_hidden()
    page.click("#tab-all")
    page.evaluate("lossatlas.story.bringIntoView(0)")
    settled(page)
    assert page.locator(".solid").nth(1).is_visible()  # the reader wants both


def test_an_address_that_asks_in_vain_is_answered_in_one_line(opened):
    page = opened("one", "#elevation=200&map=none")
    said = "The address asks for what this page cannot show: elevation=200 (shown: 89), map=none (shown: viridis)."
    assert page.locator("#misread").text_content() == said
    (box,) = boxes_of(page, "#misread")
    assert box[3] - box[1] < 30
    page.evaluate("location.hash = '#elevation=20'")
    wait(page, "document.getElementById('misread').textContent === ''")
    assert boxes_of(page, "#misread") == []


@pytest.mark.full
@pytest.mark.parametrize("size", [(1280, 720), (390, 844)], ids=str)
@pytest.mark.parametrize(
    ("name", "fragment"), [("two", ""), ("two", "#enlarged=true"), ("curves", ""), ("one", "#wire=true")]
)
def test_values_under_the_pointer_hide_nothing(opened, name, fragment, size):
    page = opened(name, fragment, size)
    view = ".flat canvas" if name == "curves" or "enlarged" in fragment else ".solid"
    page.mouse.move(*middle(page, view, (0.5, 0.5)))
    settled(page)
    readouts = boxes_of(page, ".readout")
    assert len(readouts) == (2 if name == "two" and size[0] > 500 else 1)
    assert boxes_of(page, "#drop-hint") == []
    places = [".solid", ".flat canvas", ".bar", ".transport", ".note", "h1", ".key", ".tabs"]
    if size[0] > 500:
        places.append(".legend")  # on a phone long values may lie on it, as long as a finger reads them off
    others = boxes_of(page, *places)
    for box in readouts:
        assert box[0] >= 0
        assert box[2] <= size[0]
        for other in others:
            assert box[2] <= other[0] + 1 or other[2] <= box[0] + 1 or box[3] <= other[1] + 1 or other[3] <= box[1] + 1
    assert (pixels(page, ".readout").max(axis=2) < 90).sum() > 50  # nothing hides the words either
    page.mouse.move(5, 5)
    settled(page)
    assert boxes_of(page, ".readout") == []
    assert len(boxes_of(page, "#drop-hint")) == 1


def test_a_name_is_not_said_twice(opened):
    page = opened("one")
    assert page.locator("h1").text_content() == "one"
    assert boxes_of(page, ".panel h2") == []
    assert len(boxes_of(opened("two"), ".panel h2")) == 2


def test_the_drawer_is_closed_until_it_is_asked_for(opened):
    page = opened("one")
    wide = page.locator(".solid").bounding_box()["width"]
    assert wide > 1200
    assert not page.locator("#drawer").is_visible()
    page.click("#drawer-open")
    settled(page)
    assert page.locator("#drawer").is_visible()
    assert page.locator("#drawer-open").get_attribute("aria-expanded") == "true"
    assert page.locator(".solid").bounding_box()["width"] < wide - 300  # beside the scene, not over it
    assert page.evaluate("document.activeElement.id") == "drawer-close"
    page.keyboard.press("Escape")
    assert not page.locator("#drawer").is_visible()
    assert page.evaluate("document.activeElement.id") == "drawer-open"
    page.click("#drawer-open")
    for name in ("momentum", "nesterov"):
        field = page.locator(f"#r-{name}")
        field.fill("0.000012")
        assert field.evaluate("(e) => e.scrollWidth <= e.clientWidth")  # all of it can be read


@pytest.mark.full
def test_the_bar_names_field_and_scale_in_plain_words(opened):
    page = opened("one")
    bar = page.locator(".bar canvas")
    low, high = page.evaluate("[lossatlas.model.scale().low, lossatlas.model.scale().high]")
    words = bar.get_attribute("aria-label")
    assert words == f"training loss, {words.split(', ')[1].split(':')[0]}: from {low:.3g} to {high:.3g}"
    assert "ln" not in words
    before = pixels(page, ".bar canvas")
    page = opened("one", "#scale=log&map=magma")
    assert "logarithmic scale" in page.locator(".bar canvas").get_attribute("aria-label")
    assert np.abs(pixels(page, ".bar canvas") - before).max() > 60


def test_the_legend_has_live_losses_and_switches_optimizers(opened):
    page = opened("two")
    legends = page.locator(".panel .legend")
    losses = legends.nth(0).locator(".loss")
    assert legends.count() == 2
    assert losses.all_text_contents() == [""] * 8
    page.evaluate("lossatlas.step(1)")
    settled(page)
    first = losses.all_text_contents()
    page.evaluate("lossatlas.step(200)")
    settled(page)
    assert all(a != b for a, b in zip(first, losses.all_text_contents(), strict=True))
    for number in range(2):
        shown = [float(text) for text in legends.nth(number).locator(".loss").all_text_contents()]
        own = page.evaluate(f"lossatlas.race.shownOn({number}).map((run) => run.losses[run.shown])")
        assert shown == pytest.approx(own, rel=6e-3)
    button = legends.nth(1).locator("[data-name=adam]")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    settled(page)
    assert "adam" not in state(page, "on")
    assert [each.get_attribute("aria-pressed") for each in page.locator(".panel [data-name=adam]").all()] == [
        "false"
    ] * 2
    assert legends.nth(0).locator("[data-name=adam] .loss").text_content() == ""
    button.click()
    assert "adam" in state(page, "on")


def test_the_chart_of_the_race_says_which_lines_belong_to_which_surface(opened):
    page = opened("two")
    key = page.locator(".details .key")
    assert key.is_visible()
    assert [each.text_content() for each in key.locator("> span").all()] == ["smooth", "<i>other</i>"]
    looks = key.locator(".stroke").evaluate_all("(all) => all.map((e) => getComputedStyle(e).borderTopStyle)")
    assert looks == ["solid", "dashed"]
    assert not opened("one").locator(".details .key").is_visible()


def test_the_hint_stays_until_a_ball_is_dropped(opened):
    page = opened("one", "#seconds=300")
    hint = page.locator("#drop-hint")
    assert hint.text_content() == "Click anywhere to drop a ball · drag to turn"
    page.click("#view-front")
    assert hint.is_visible()
    page.mouse.click(*middle(page, ".solid", (0.5, 0.42)))
    assert hint.count() == 0


def test_a_newcomer_sees_one_sweep_and_one_ball(opened):
    page = opened("one", reduced_motion="no-preference")
    usual = page.evaluate("lossatlas.model.initial.azimuth")
    assert page.evaluate("lossatlas.flight.isUnderWay")
    assert page.evaluate("lossatlas.race.playing")
    assert abs(state(page, "azimuth") - usual) > 5
    wait(page, "lossatlas.model.state.at > 3")
    assert page.evaluate("lossatlas.race.shownOn(0).map((run) => run.optimizer.name)") == ["momentum"]
    assert page.evaluate("location.hash") == ""
    wait(page, "!lossatlas.flight.isUnderWay")
    assert state(page, "azimuth") == usual
    page.mouse.click(*middle(page, ".solid", (0.5, 0.42)))
    wait(page, "lossatlas.model.state.at > 3")
    assert len(page.evaluate("lossatlas.race.shownOn(0).map((run) => run.optimizer.name)")) == 8


@pytest.mark.full
def test_any_input_ends_the_sweep_and_no_motion_is_forced_on_anybody(opened):
    page = opened("one", reduced_motion="no-preference")
    page.keyboard.press("Shift")
    settled(page)
    assert not page.evaluate("lossatlas.flight.isUnderWay || lossatlas.race.playing")
    assert page.evaluate("[lossatlas.model.state.azimuth, lossatlas.model.state.at]") == [
        page.evaluate("lossatlas.model.initial.azimuth"),
        0,
    ]
    for page in (opened("one"), opened("one", "#map=magma", reduced_motion="no-preference")):
        assert not page.evaluate("lossatlas.flight.isUnderWay || lossatlas.race.playing")


@pytest.mark.full
def test_views_from_the_front_the_top_and_along_the_ravine(opened):
    page = opened("ravine")
    page.click("#view-front")
    assert (state(page, "azimuth"), state(page, "elevation") < 25) == (-90, True)
    page.click("#view-top")
    assert state(page, "elevation") == 89
    page.click("#view-ravine")
    settled(page)
    assert state(page, "azimuth") == pytest.approx(30 - 180, abs=4)  # along the valley, from the front
    again = opened("ravine", page.evaluate("location.hash"))
    assert state(again, "azimuth") == pytest.approx(state(page, "azimuth"), abs=1e-4)
    page.click("#reset-view")
    assert page.evaluate("location.hash") == ""
    moving = opened("ravine", "#map=magma", reduced_motion="no-preference")
    moving.click("#view-top")
    assert state(moving, "elevation") < 89  # on its way
    wait(moving, "lossatlas.model.state.elevation === 89")
    assert "elevation=89" in moving.evaluate("location.hash")


@pytest.mark.full
def test_shift_and_drag_moves_the_scene(opened):
    page = opened("one")
    before, azimuth = pixels(page, ".solid"), state(page, "azimuth")
    x, y = middle(page, ".solid", (0.3, 0.8))
    page.keyboard.down("Shift")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 10, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert state(page, "azimuth") == azimuth
    assert np.hypot(state(page, "panx"), state(page, "pany")) > 0.1
    assert np.abs(pixels(page, ".solid") - before).mean() > 1
    assert "panx=" in page.evaluate("location.hash")


def test_the_map_becomes_large_and_small_again(opened):
    page = opened("two")
    small = page.locator(".flat").first.bounding_box()["width"]
    solid = page.locator(".solid").first.bounding_box()["width"]
    assert small < 0.4 * solid
    page.click("#enlarge-0")
    settled(page)
    assert page.locator(".flat").nth(1).bounding_box()["width"] > 1.5 * small
    assert page.locator("#enlarge-0").get_attribute("aria-pressed") == "true"
    assert page.evaluate("location.hash") == "#enlarged=true"
    page.click("#enlarge-1")
    settled(page)
    assert page.locator(".flat").first.bounding_box()["width"] == small


def test_the_view_is_shared_as_a_link_or_a_frame(opened):
    page = opened("one", "#map=magma", permissions=["clipboard-read", "clipboard-write"])
    page.click("#share-open")
    assert page.input_value("#share-link") == page.url
    page.click("#share-link-copy")
    wait(page, "document.getElementById('share-said').textContent !== ''")
    assert page.locator("#share-said").text_content() == "Link copied."
    code = page.input_value("#share-code")
    assert 'src="one.html#map=magma"' in code
    assert code.startswith("<iframe ")
    assert code.endswith("></iframe>")
    page.click("#share-close")
    assert not page.locator("#share").is_visible()
    assert page.locator("#full-screen").is_visible()


def test_what_takes_keys_is_no_picture_and_has_a_name(opened):
    page = opened("two")
    found = page.evaluate(
        """[...document.querySelectorAll("[tabindex='0']")].map(
        (e) => [e.getAttribute("role"), e.getAttribute("aria-label")])"""
    )
    named = [each for each in found if each[0]]
    assert len(named) >= 4
    assert all(role == "application" and label for role, label in named)


def test_curves_share_one_chart(opened):
    page = opened("curves")
    assert page.locator(".panel").count() == 1
    assert page.locator(".flat canvas").count() == 1
    charts = page.evaluate("lossatlas.panels[0].plane.charts()")
    assert [each["names"] for each in charts] == [["train_loss", "test_loss"], ["train_acc"]]
    words = page.locator(".panel .key").text_content()
    for name in ("first", "second", "training loss", "test loss"):
        assert name in words
    found = pixels(page, ".flat")
    for colour in ((59, 125, 196), (201, 112, 26)):  # one for each surface
        assert (np.abs(found - colour).max(axis=2) < 40).sum() > 200
    page.mouse.move(*middle(page, ".flat canvas", (0.6, 0.3)))
    words = page.locator(".readout").text_content()
    assert words.startswith("first: x ")
    assert " · second: x " in words


def test_without_webgl_the_plane_is_there(opened):
    page = opened("one", "#gl=false")
    assert page.locator(".solid").count() == 0
    page.mouse.click(*middle(page, ".flat canvas", (0.55, 0.3)))
    wait(page, "lossatlas.model.state.at > 3")
    context = page.context.browser.new_context()
    bare = context.new_page()
    bare.add_init_script(NO_WEBGL)
    bare.goto(page.url.split("#")[0])
    wait(bare, "window.lossatlas && lossatlas.frameTime !== undefined")
    assert "no WebGL2" in bare.locator("#sceneless").text_content()
    assert bare.locator(".solid").count() == 0
    context.close()


def test_the_theme_follows_the_system(opened):
    dark = opened("one", color_scheme="dark")
    assert dark.evaluate("document.documentElement.dataset.theme") == "dark"
    assert pixels(dark, ".solid")[2, 2].max() < 60


@pytest.mark.full
def test_the_picture_is_saved(opened, tmp_path):
    page = opened("two", "#at=60", drawer=True)
    with page.expect_download() as download:
        page.click("#picture")
    download.value.save_as(tmp_path / "surface.png")
    image = np.asarray(Image.open(tmp_path / "surface.png").convert("RGB")).astype(int)
    assert min(image.shape[:2]) > 300
    assert (image.max(axis=2) - image.min(axis=2) > 40).mean() > 0.1
