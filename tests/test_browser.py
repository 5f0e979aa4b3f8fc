"""The page in a real browser, headless, from file://, with WebGL by software: what is there, and what each control does."""

import html
import io

import numpy as np
import pytest
from conftest import CHROMIUM
from PIL import Image

from lossatlas.io import Projection
from lossatlas.landscape import Grid, Surface
from lossatlas.viewer import Page, Shown, write_page

pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -r requirements-dev.txt")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium"),
]
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

    made = {
        "one": [Shown(surface(), "one", trajectory=PATH)],
        "two": [Shown(surface(), "smooth"), Shown(surface(f=lambda x, y: 5 + bowl(y, x)), "<i>other</i>")],
        "curve": [Shown(surface(gy=None), "line")],
        "wide": [Shown(surface("-2:6:31", "-1:0.5:9", lambda x, y: x * x - 4 * x + 6 * y * y + 3), "wide")],
        "odd": [Shown(surface(f=odd), "odd")],
        "unfinished": [Shown(surface(cells=Grid.parse("-1:1:21", "-1:1:21").coarse_first()[:150]), "part")],
    }
    for name, shown in made.items():
        write_page(folder / f"{name}.html", shown)
    return folder


@pytest.fixture
def opened(browser, pages):
    """Opens a page; in the end nothing was fetched, and nothing complained."""
    contexts, wrong = [], []

    def open_page(name, fragment="", size=(1280, 900), **more):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, accept_downloads=True, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        fine = ("file:", "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(fine) else wrong.append(request.url))
        page.goto(f"file://{pages / name}.html{fragment}")
        wait(page, "window.lossatlas && lossatlas.frameTime !== undefined")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def wait(page, condition, seconds=120):
    """Playwright's own way needs `eval`, which the page forbids."""
    for _ in range(20 * seconds):
        if page.evaluate(f"Boolean({condition})"):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not within {seconds} s: {condition}")


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
    assert "a <b>bold</b> one" in page.locator(".panel .caption").first.text_content()
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


def test_dragging_the_start_moves_it(opened):
    page = opened("one", "#x=0.3&y=0.3")
    place = page.evaluate(
        """() => { const p = lossatlas.panels[0]; const v = p.scene.view(); const b = p.scene.root.getBoundingClientRect();
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
    ("#c-height", "train_acc", ("height", "train_acc"), ".solid"),
    ("#c-cut", None, ("cut", True), ".flat"),
    ("#c-objective", "log", ("objective", "log"), None),
    ("#c-steps", "120", ("steps", 120), None),
    ("#c-noise", "0.5", ("noise", 0.5), None),
    ("#c-seed", "7", ("seed", 7), None),
    ("#r-adam", "0.1", None, None),
    ("#s-sam-rho", "0.2", None, None),
]


QUICK = {"#c-scale", "#c-lines", "#c-cut", "#c-objective", "#c-noise", "#c-seed", "#r-adam"}  # each kind of control


@pytest.mark.parametrize(
    "controls",
    [
        pytest.param([each for each in CONTROLS if each[0] in QUICK], id="quick"),
        pytest.param(CONTROLS, marks=full, id="all"),
    ],
)
def test_every_control_changes_what_it_says(opened, controls):
    page = opened("one", "#at=100")
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
            assert np.abs(pixels(page, view) - before).max() > 30, control
        else:
            assert page.evaluate(races) != before, control
        assert page.evaluate("location.hash") != address, control


SLIDERS = [
    ("x", -0.5, ".flat"),
    ("y", 0.1, ".flat"),
    ("top", 0.5, ".solid"),
    ("at", 50, ".flat"),
    ("angle", 45, ".flat"),
    ("epoch", 3, ".flat"),
]


@pytest.mark.parametrize(
    "sliders", [pytest.param(SLIDERS[::2], id="quick"), pytest.param(SLIDERS[1::2], marks=full, id="others")]
)
def test_sliders(opened, sliders):
    page = opened("one", "#at=100")
    for control, value, view in sliders:
        before = pixels(page, view)
        move = "(e, value) => { e.value = value; e.dispatchEvent(new Event('input', {bubbles: true})); }"
        page.locator(f"#c-{control}").evaluate(move, value)
        settled(page)
        assert state(page, control) == pytest.approx(value, abs=0.01)
        assert np.abs(pixels(page, view) - before).max() > 30, control


def test_optimizers_are_switched_off_and_set_back(opened):
    page = opened("one", "#at=100")
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
    page.keyboard.press("Tab")  # the scene
    azimuth, elevation = state(page, "azimuth"), state(page, "elevation")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert (state(page, "azimuth"), state(page, "elevation")) == (azimuth + 5, elevation + 5)
    distance = state(page, "distance")
    page.keyboard.press("+")
    assert state(page, "distance") < distance
    page.keyboard.press("Tab")  # the plane from above
    x = state(page, "x")
    page.keyboard.press("ArrowLeft")
    assert state(page, "x") == pytest.approx(x - 0.04)
    for _ in range(60):  # every control is reached
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "usual":
            break
    assert page.evaluate("document.activeElement.id") == "usual"


def test_the_address_holds_the_state(opened):
    page = opened("two", "#seconds=300")
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
    frame.select_option("#c-map", "magma")
    assert frame.evaluate("[lossatlas.model.state.at, location.hash]") == [1, "#map=magma&at=1"]
    frame.locator("#rewind").click()
    assert frame.evaluate("[lossatlas.model.state.at, location.hash]") == [0, "#map=magma"]
    context.close()
    assert wrong == []


REFUSE = """
history.replaceState = () => { throw new DOMException("the address of this frame cannot change", "SecurityError"); };
"""


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


def test_what_is_better_high_is_climbed(opened):
    page = opened("one", "#height=train_acc&at=300")
    assert "is climbed" in page.locator("#remark").text_content()
    ends = page.evaluate("lossatlas.race.runs[0].map((run) => [run.losses[0], run.losses[run.losses.length - 1]])")
    assert sum(last > first for first, last in ends) >= 6


def test_what_is_not_taken_is_said(opened):
    page = opened("one")
    page.fill("#c-steps", "100000")
    page.keyboard.press("Tab")
    assert "from 1 to 5000" in page.locator(".complaint").text_content()


def test_two_models_turn_together_and_lie_over_each_other(opened):
    page = opened("two")
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
    assert page.locator(".stage").text_content() == "smooth<i>other</i>"
    found = pixels(page, ".stage .solid")
    blue = (found[..., 2] > found[..., 0] + 30).mean()
    orange = (found[..., 0] > found[..., 2] + 30).mean()
    assert blue > 0.03
    assert orange > 0.03
    page.uncheck("#c-overlay")
    settled(page)
    assert page.locator(".panel .solid").count() == 2


def test_the_path_of_a_training_is_walked(opened):
    page = opened("one")
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


def test_the_picture_is_saved(opened, tmp_path):
    page = opened("two", "#at=60")
    with page.expect_download() as download:
        page.click("#picture")
    download.value.save_as(tmp_path / "surface.png")
    image = np.asarray(Image.open(tmp_path / "surface.png").convert("RGB")).astype(int)
    assert min(image.shape[:2]) > 300
    assert (image.max(axis=2) - image.min(axis=2) > 40).mean() > 0.1
