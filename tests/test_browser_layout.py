"""Where the parts of the page stand in a real browser: names, notes, legends and maps leave the surface free."""

from itertools import combinations

import numpy as np
import pytest
from conftest import page_opener

pytest.importorskip("playwright.sync_api", reason="no playwright: pip install --group dev")
from test_browser import SCREENS, bowl, boxes_of, settled, state, surface
from test_browser_pictures import RECORD

from lossatlas.io import Projection
from lossatlas.landscape import Grid, Surface
from lossatlas.viewer import Shown, write_page

STORY = "# The basin\n\nA few words.\n\n```state\nazimuth=-20&elevation=60&x=0.1&y=0\n```\n"
RIVER = ("drift from epoch_0.pt to epoch_9.pt", "top eigenvector, at a right angle")
CORNERS = """(number) => { const { scene, heights } = lossatlas.panels[number]; const v = scene.view(), m = v.matrix;
const box = scene.root.getBoundingClientRect(), [u, w] = heights.box; const found = [];
for (const x of [-u, u]) for (const y of [-w, w]) for (const z of [-0.3, 0.85]) {
  const c = [0, 1, 3].map((r) => m[r] * x + m[4 + r] * y + m[8 + r] * z + m[12 + r]);
  found.push([box.left + (c[0] / c[2] + 1) / 2 * v.width, box.top + (1 - c[1] / c[2]) / 2 * v.height]); }
return [found, [box.left, box.top, box.right, box.bottom]]; }"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layout")
    (folder / "story.md").write_text(STORY)
    pair = [Shown(surface(), "ResNet-56"), Shown(surface(f=lambda x, y: 3 * bowl(y, x)), "without shortcuts")]
    path = Projection(np.linspace(0.9, 0, 6), np.linspace(0.5, 0, 6), axes=RIVER)
    write_page(folder / "one.html", pair[:1], vmax=2)
    write_page(folder / "two.html", pair, vmax=2)
    small = [Shown(surface(f=lambda x, y: 6.79e-4 * (1 + bowl(x, y))), name) for name in ("ResNet-56", "another")]
    write_page(folder / "small.html", small)
    write_page(folder / "long.html", [Shown(eigenvalues(), "long")])
    write_page(folder / "told.html", pair[:1], story=folder / "story.md")
    write_page(folder / "river.html", [Shown(surface(), "river", trajectory=path)])
    return folder


@pytest.fixture
def opened(browser, pages):
    with page_opener(browser, pages) as open_page:

        def sized(name, size, fragment="", **more):
            phone = {"has_touch": True, "is_mobile": True} if size[0] < 500 else {}
            page = open_page(name, fragment, size, script=RECORD, **phone, **more)
            settled(page)
            return page

        yield sized


def eigenvalues():
    """A rough surface, with a note on it and a long name of its height."""
    grid = Grid.parse("-1:1:9", "-1:1:9")
    x, y = np.meshgrid(grid.x, grid.y)
    values = (3000 * bowl(x, y) + 1500 * np.sin(9 * x + 5 * y)).ravel()
    return Surface.of_values(grid, ["max_eig"]).with_cells(np.arange(81), values[:, None])


def apart(a, b):
    return a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1


def shown_panels(page):
    """The numbers of the surfaces that are shown: on a narrow page one at a time."""
    return page.evaluate("lossatlas.panels.filter(({ root }) => !root.hidden).map(({ number }) => number)")


def title_of_height(page, number):
    """The box of the words over the vertical axis of a scene."""
    _, scene = page.evaluate(CORNERS, number)
    titles = [box for words, *box in page.evaluate("window.written") if words == "training loss"]
    found = titles[shown_panels(page).index(number)]
    return [found[0] + scene[0], found[1] + scene[1], found[2] + scene[0], found[3] + scene[1]]


VIEWS = [  # page, size, the tab that is chosen, and the surfaces that are then shown
    *(("one", size, "", [0]) for size in SCREENS),
    *(("two", size, "", [0, 1]) for size in SCREENS[:2]),
    ("two", SCREENS[2], "", [0]),
    ("two", SCREENS[2], "#tab-1", [1]),
    ("two", SCREENS[2], "#tab-all", [0, 1]),
]


def view(opened, name, size, tab, numbers, fragment):
    """Open a page and choose a tab; `numbers`: of the surfaces that are then shown."""
    page = opened(name, size, fragment)
    if tab:
        page.click(tab)
        settled(page)
    assert shown_panels(page) == numbers
    return page


@pytest.mark.full
@pytest.mark.parametrize(("name", "size", "tab", "numbers"), VIEWS, ids=str)
def test_name_note_legend_map_and_title_do_not_overlap(opened, name, size, tab, numbers):
    page = view(opened, name, size, tab, numbers, "#at=60")
    assert len(boxes_of(page, ".note")) == len(numbers)
    assert "% of the cells lie above 2" in page.locator(".note").first.text_content()
    page.evaluate("window.written.length = 0; lossatlas.draw()")
    settled(page)
    places = (".note", ".legend", ".panel h2", ".flat", ".enlarge", "#drop-hint", ".bar", ".transport", ".tabs")
    parts = boxes_of(page, *places) + [title_of_height(page, number) for number in numbers]
    for a, b in combinations(parts, 2):
        assert apart(a, b), (a, b)


TURN = """(fragment) => new Promise((turned) => {
  addEventListener("hashchange", turned, { once: true });
  location.hash = fragment;
})"""


@pytest.mark.full
@pytest.mark.parametrize(("name", "size", "tab", "numbers"), VIEWS, ids=str)
def test_nothing_stands_on_the_surface_from_any_side(opened, name, size, tab, numbers):
    page = view(opened, name, size, tab, numbers, "")
    for fragment in ("", "#azimuth=30", "#azimuth=-90&elevation=16", "#elevation=80"):
        if fragment:
            page.evaluate(TURN, fragment)
            if tab:
                page.click(tab)
            settled(page)
            assert shown_panels(page) == numbers
            wanted = dict(part.split("=") for part in fragment[1:].split("&"))
            assert {side: state(page, side) for side in wanted} == {side: float(v) for side, v in wanted.items()}
        assert_free(page, size, numbers)


@pytest.mark.full
@pytest.mark.parametrize(("name", "size", "tab", "numbers"), VIEWS, ids=str)
def test_nothing_stands_on_the_surface_in_the_views_of_the_buttons(opened, name, size, tab, numbers):
    page = view(opened, name, size, tab, numbers, "")
    for preset in ("front", "top", "ravine"):
        turned_to(page, preset)
        assert_free(page, size, numbers, 0.7 if preset == "top" else 1)


def test_the_ravine_is_shown_with_the_whole_surface(opened):
    page = opened("two", SCREENS[0])
    turned_to(page, "ravine")
    assert_free(page, SCREENS[0], [0, 1])


@pytest.mark.few(1)
@pytest.mark.parametrize("size", [(1000, 640), (1024, 768), (1280, 720)], ids=str)
def test_beside_the_controls_nothing_stands_on_two_surfaces(opened, size):
    page = opened("two", size, "#at=60")
    page.click("#drawer-open")
    settled(page)
    assert_free(page, size, [0, 1], 0.9)


@pytest.mark.parametrize("size", [(1280, 720), (1000, 640)], ids=str)
def test_small_losses_stand_beside_their_names_alone(opened, size):
    page = opened("small", size, "#at=200")
    inner = "(all) => all.map((e) => { const r = document.createRange(); r.selectNodeContents(e);"
    inner += " const b = r.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; })"
    losses = page.locator(".panel .legend .loss").evaluate_all(inner)
    names = page.locator(".panel .legend .name").evaluate_all(inner)
    ticks = boxes_of(page, ".panel .legend .tick")
    texts = page.locator(".panel .legend .loss").all_text_contents()
    assert len(losses) == len(names) == len(ticks) == 16
    assert any("e-4" in words or "e-3" in words for words in texts)
    for loss in losses:
        assert 0 <= loss[0] < loss[2] <= size[0]
        assert all(apart([loss[0] - 3, loss[1], loss[2] + 3, loss[3]], other) for other in ticks + names)


def turned_to(page, preset):
    before = state(page, "azimuth"), state(page, "elevation")
    page.click(f"#view-{preset}")
    settled(page)
    assert (state(page, "azimuth"), state(page, "elevation")) != before


def assert_free(page, size, numbers, share=1.0):
    """No words or controls stand on the surfaces, which have most of their scene; share: of their usual width."""
    parts = boxes_of(page, ".note", ".legend", ".panel h2", ".flat", ".enlarge", "#drop-hint")
    for number in numbers:
        corners, scene = page.evaluate(CORNERS, number)
        for x, y in corners:
            assert scene[0] < x < scene[2]
            assert scene[1] < y < scene[3]
            assert all(apart([x, y, x, y], part) for part in parts), (x, y)
        wide = max(x for x, _ in corners) - min(x for x, _ in corners)
        least = 0.34 if size[0] > 500 else 0.28 if len(numbers) > 1 else 0.6
        assert wide > share * least * (scene[2] - scene[0])  # and it is no dwarf
    grounds = page.locator(".legend").evaluate_all("(all) => all.map((e) => getComputedStyle(e).backgroundColor)")
    assert set(grounds) == {"rgba(0, 0, 0, 0)"}


def test_beside_a_story_the_whole_scene_stands_in_the_middle(opened):
    page = opened("told", (1440, 900))
    assert state(page, "elevation") == 60
    corners, scene = page.evaluate(CORNERS, 0)
    (card,) = boxes_of(page, ".story")
    xs, ys = zip(*corners, strict=True)
    assert card[2] < scene[0]
    assert scene[1] < min(ys) < max(ys) < scene[3]
    assert (min(xs) + max(xs)) / 2 == pytest.approx((scene[0] + scene[2]) / 2, abs=0.08 * (scene[2] - scene[0]))


POINTS = """() => { const { scene, heights } = lossatlas.panels[0]; const v = scene.view(), m = v.matrix;
const box = scene.root.getBoundingClientRect(); const found = [];
for (let i = 0; i <= 60; i++) for (let j = 0; j <= 60; j++) {
  const [x, y, z] = heights.inBox(i / 60, j / 60, heights.sample(i / 60, j / 60)[0] * 0.85);
  const c = [0, 1, 3].map((r) => m[r] * x + m[4 + r] * y + m[8 + r] * z + m[12 + r]);
  found.push([(c[0] / c[2] + 1) / 2 * v.width, (1 - c[1] / c[2]) / 2 * v.height]); }
return [found, [box.left, box.top]]; }"""


@pytest.mark.parametrize("size", [SCREENS[1], SCREENS[2]], ids=str)
def test_a_long_name_of_the_height_stands_beside_the_surface_and_on_no_note(opened, size):
    page = opened("long", size)
    name = "largest eigenvalue of the Hessian"
    for fragment in ("", "#distance=2.6", "#distance=3.5&azimuth=-20"):
        if fragment:
            page.evaluate(TURN, fragment)
        page.evaluate("window.written.length = 0; lossatlas.draw()")
        settled(page)
        written = [(words, box) for words, *box in page.evaluate("window.written") if words in name]
        written = [(words, box) for words, box in written if len(words) > 3]
        points, (left, top) = page.evaluate(POINTS)
        (note,) = boxes_of(page, ".note")
        for _, box in written:
            assert apart([box[0] + left, box[1] + top, box[2] + left, box[3] + top], note)
            if not fragment:
                assert not any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in points)
        if not fragment:
            assert " ".join(words for words, _ in written) == name


def test_axes_of_a_river_plane_have_their_names(opened):
    page = opened("river", (1280, 720))
    written = {words for words, *_ in page.evaluate("window.written")}
    assert {"drift", "top eigenvector"} <= written
    assert not {"x", "y"} & written
    for selector in (".solid", ".flat canvas"):
        about = page.locator(selector).get_attribute("aria-label")
        assert all(name in about for name in RIVER)
    assert f"x: {RIVER[0]}; y: {RIVER[1]}" in page.locator(".caption").text_content()


@pytest.mark.parametrize("number", [0, 1])
def test_a_phone_shows_a_surface_over_nearly_its_whole_width(opened, number):
    page = opened("two", (390, 844))
    page.click(f"#tab-{number}")
    settled(page)
    corners, scene = page.evaluate(CORNERS, number)
    assert scene[2] - scene[0] == 390
    assert max(x for x, _ in corners) - min(x for x, _ in corners) > 290  # the rest is that of the axes' numbers


@pytest.mark.parametrize("size", [SCREENS[0], SCREENS[2]], ids=str)
def test_the_hint_has_a_row_of_its_own_which_stays(opened, size):
    page = opened("one", size)
    before = page.evaluate(CORNERS, 0)
    (hint,) = boxes_of(page, "#drop-hint")
    assert hint[1] >= before[1][3]  # under the scene
    page.evaluate("lossatlas.startAt([0.2, 0.2])")
    settled(page)
    assert boxes_of(page, "#drop-hint") == []
    assert page.evaluate(CORNERS, 0) == before  # nothing jumps


def test_entries_of_the_legend_look_as_what_they_are(opened):
    page = opened("one", (1440, 900))
    adam = page.locator(".legend [data-name=adam]")
    mark = "(e) => getComputedStyle(e.querySelector('.tick'), '::before').content"
    look = "(e) => [getComputedStyle(e).borderColor, getComputedStyle(e).cursor]"
    border, cursor = adam.evaluate(look)
    assert cursor == "pointer"
    assert "✓" in adam.evaluate(mark)
    adam.hover()
    assert adam.evaluate(look)[0] != border
    adam.click()
    settled(page)
    assert "✓" not in adam.evaluate(mark)
    assert "line-through" in adam.locator(".name").evaluate("(e) => getComputedStyle(e).textDecorationLine")
    page.mouse.move(700, 880)
    page.keyboard.press("Tab")
    nadam = page.locator(".legend :focus-visible")
    assert nadam.evaluate(look)[0] != border
