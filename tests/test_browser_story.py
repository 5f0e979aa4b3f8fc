"""Stories, exports and the gallery in a real browser: the steps, the files that are saved, the links."""

import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from conftest import ROOT, page_opener, wait
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="no playwright: pip install --group dev")
from test_browser import PATH, settled, state, surface

from lossatlas.io import read_surface
from lossatlas.viewer import GalleryPage, Shown, write_gallery, write_page
from lossatlas.viewer.page_state import (
    FLAG,
    NUMBER,
    NUMBERS,
    OPTIMIZERS,
    RANGES,
    STATE,
    TEXT,
    TEXTS,
    USUAL_STEPS,
    WORDS,
)

SVG = "{http://www.w3.org/2000/svg}"
OWN = """
# Look <b>here</b>

Words with **bold**, `code`, <img src=x onerror=alert(1)> and a [link](https://example.org).

```state
azimuth=20&elevation=70&on=sgd&x=0.5&y=-0.5&map=magma
```

# Then run

All of it runs.

```state
azimuth=120&seconds=1&on=sgd~adam&play=true
```

# At last

This step changes nothing.
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stories")
    (folder / "own.md").write_text(OWN)
    two = [Shown(surface(), "smooth"), Shown(surface(f=lambda x, y: 5 + x * x + 2 * y * y), "<i>other</i>")]
    write_page(folder / "one.html", [Shown(surface(), "one", trajectory=PATH)])
    write_page(folder / "two.html", two, "A title & another")
    write_page(folder / "curve.html", [Shown(surface(gy=None), "line")])
    write_page(folder / "own.html", [Shown(surface(), "one")], story=folder / "own.md")
    return folder


@pytest.fixture
def opened(browser, pages):
    """Opens a page, see `page_opener`."""
    with page_opener(browser, pages) as open_page:
        yield open_page


def title(page):
    return page.locator("#story-title").text_content()


@pytest.mark.full
def test_the_state_has_the_names_and_kinds_that_a_story_may_use(opened):
    kinds = opened("two").evaluate(
        """Object.fromEntries(Object.entries(lossatlas.model.initial).map(([name, value]) =>
        [name, Array.isArray(value) ? typeof value[0] + "s" : typeof value]))"""
    )
    names = {"string": TEXT, "number": NUMBER, "boolean": FLAG, "strings": TEXTS, "numbers": NUMBERS}
    assert {name: names[kind] for name, kind in kinds.items()} == STATE
    page = opened("one")
    assert tuple(page.evaluate("lossatlas.model.initial.on")) == OPTIMIZERS
    assert page.evaluate("lossatlas.model.initial.steps") == USUAL_STEPS
    for name, own in WORDS.items():
        for value in own:
            assert opened("one", f"#{name}={value}").evaluate(f"lossatlas.model.state.{name}") == value
    for name in ("elevation", "distance", "panx", "steps", "seconds"):  # the page takes what a story may say, no more
        for end, beyond in zip(RANGES[name], (-1, 1), strict=True):
            page.evaluate(f"lossatlas.model.state.{name} = {end + beyond}; lossatlas.model.repair()")
            assert page.evaluate(f"lossatlas.model.state.{name}") == end


def test_a_story_is_told_step_by_step(opened):
    page = opened("two")
    assert page.locator(".story").is_hidden()
    page.click("#story-open")
    assert title(page) == "What is this sheet?"
    assert page.locator("#story-back").is_disabled()
    page.click("#story-next")
    assert title(page).startswith("Two numbers of")
    wait(page, "lossatlas.model.state.elevation === 89")
    assert [state(page, "x"), state(page, "y")] == [0, 0]
    assert "story=2" in page.evaluate("location.hash")
    page.keyboard.press("ArrowRight")
    assert title(page) == "Beside another one"
    assert "<i>other</i>" in page.locator(".story .words").text_content()
    page.keyboard.press("ArrowLeft")
    assert title(page).startswith("Two numbers of")
    page.locator(".story .dot").nth(3).click()
    assert title(page) == "Roll a ball"
    wait(page, "lossatlas.model.state.at > 3")
    assert state(page, "on") == ["sgd", "momentum", "adam"]
    assert page.locator(".story .dot[aria-current=step]").get_attribute("aria-label") == "Step 4: Roll a ball"
    page.keyboard.press("Escape")
    assert page.locator(".story").is_hidden()
    assert page.evaluate("document.activeElement.id") == "story-open"
    assert state(page, "story") == 0


def test_the_last_step_ends_the_story(opened):
    page = opened("one", "#story=5")
    wait(page, "lossatlas.story.shown === 5")
    assert page.locator("#story-next").text_content() == "Done"
    page.keyboard.press("ArrowRight")
    assert page.locator(".story").is_visible()
    page.click("#story-next")
    assert page.locator(".story").is_hidden()


@pytest.mark.full
def test_an_address_opens_a_step_and_may_change_its_view(opened):
    page = opened("one", "#story=2")
    wait(page, "lossatlas.model.state.elevation === 89")
    assert title(page).startswith("Two numbers of")
    changed = opened("one", "#story=2&elevation=20")
    settled(changed)
    assert title(changed).startswith("Two numbers of")
    assert state(changed, "elevation") == 20
    far = opened("one", "#story=99")
    wait(far, "lossatlas.story.shown === 5")
    far.evaluate("location.hash = '#story=1&map=magma'")
    wait(far, "lossatlas.story.shown === 1")


@pytest.mark.full
def test_the_camera_moves_smoothly_unless_motion_is_unwelcome(opened):
    page = opened("own", "#azimuth=-60", motion="no-preference")
    seen = page.evaluate(
        """() => { lossatlas.story.go(1);
        return [0, 0.25, 0.5, 0.75, 1].map((share) => {  // no frame of the page's own comes between
          lossatlas.flight.advance(1e9 + share * lossatlas.flight.duration);
          return lossatlas.model.state.azimuth; }); }"""
    )
    assert (seen[0], seen[-1]) == (-60, 20)
    assert seen == sorted(set(seen))
    jumps = opened("own", "#azimuth=-60")
    found = jumps.evaluate(
        """() => new Promise((done) => { const seen = new Set(); lossatlas.story.go(1);
        const look = (n) => { seen.add(lossatlas.model.state.azimuth);
          n ? requestAnimationFrame(() => look(n - 1)) : done([...seen]); };
        look(6); })"""
    )
    assert set(found) <= {-60, 20}


def test_the_reader_takes_the_camera(opened):
    page = opened("own", "#azimuth=-60", motion="no-preference")
    page.evaluate("lossatlas.story.go(1)")
    page.mouse.move(600, 300)
    page.mouse.down()
    page.mouse.up()
    stopped = state(page, "azimuth")
    page.wait_for_timeout(1200)
    assert state(page, "azimuth") == pytest.approx(stopped)


@pytest.mark.full
def test_a_story_of_ones_own_opens_with_the_page(opened):
    page = opened("own")
    assert title(page) == "Look <b>here</b>"
    assert page.locator(".story .words img").count() == 0
    assert "<img src=x onerror=alert(1)>" in page.locator(".story .words").text_content()
    assert page.locator(".story .words strong").text_content() == "bold"
    assert page.locator(".story .words code").text_content() == "code"
    link = page.locator(".story .words a")
    assert (link.get_attribute("href"), link.get_attribute("rel")) == ("https://example.org", "noopener noreferrer")
    wait(page, "lossatlas.model.state.azimuth === 20")
    assert [state(page, name) for name in ("x", "y", "on", "map", "elevation")] == [0.5, -0.5, ["sgd"], "magma", 70]
    page.keyboard.press("ArrowRight")
    wait(page, "lossatlas.model.state.at > 0")
    assert [state(page, name) for name in ("map", "azimuth")] == ["viridis", 120]  # a state is a whole one
    page.click("#story-next")
    assert [title(page), state(page, "azimuth")] == ["At last", 120]
    elsewhere = opened("own", "#map=magma")
    settled(elsewhere)
    assert elsewhere.locator(".story").is_hidden()


def test_a_story_on_a_phone(opened):
    page = opened("two", size=(390, 844), has_touch=True, is_mobile=True, device_scale_factor=2)
    page.locator("#story-open").tap()
    for _ in range(2):
        page.locator("#story-next").tap()
    settled(page)
    box = page.locator(".story").bounding_box()
    assert (box["x"], box["width"]) == (0, 390)
    assert box["y"] + box["height"] == pytest.approx(844, abs=1)
    assert box["height"] <= 0.47 * 844
    assert page.locator("#story-next").bounding_box()["height"] >= 40
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    second = page.evaluate("lossatlas.panels[1].root.getBoundingClientRect().top")
    assert -1 <= second < 422  # the surface that the step tells about is above the card


def save(page, control, tmp_path):
    with page.expect_download(timeout=90_000) as download:
        page.locator(control).evaluate("(e) => e.click()")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    return file


@pytest.mark.full
def test_the_picture_is_four_times_as_fine_and_has_title_and_bar(opened, tmp_path):
    page = opened("two", "#at=60&theme=light", size=(900, 700))
    shown = page.evaluate("lossatlas.panels[0].scene.root.getBoundingClientRect().width")
    file = save(page, "#picture", tmp_path)
    assert file.name == "a_title_another.png"
    image = np.asarray(Image.open(file).convert("RGB")).astype(int)
    height, width = image.shape[:2]
    assert width > 4 * 2 * shown  # both surfaces side by side
    colour = image.max(axis=2) - image.min(axis=2) > 40
    assert colour.mean() > 0.06
    assert (image[: 4 * 48].max(axis=2) < 90).sum() > 500  # letters of the title
    below = image[height - 4 * 70 :, 4 * 30 : 4 * 400]
    row = max(below, key=lambda line: (line.max(axis=1) - line.min(axis=1) > 30).sum())
    hues = np.unique(row[::16] // 24, axis=0)
    assert len(hues) > 12  # the bar has the colours of the whole map
    settled(page)
    assert page.evaluate("lossatlas.panels[0].scene.canvas.width") < 2 * shown  # and the page is what it was


def paths_of(file):
    root = ET.fromstring(file.read_bytes())
    assert root.tag == f"{SVG}svg"
    return root, list(root.iter(f"{SVG}path")), ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


@pytest.mark.full
def test_the_map_is_saved_as_vectors_with_text(opened, tmp_path):
    page = opened("two", "#at=120&cut=true")
    root, paths, texts = paths_of(save(page, "#svg-map", tmp_path))
    assert {"A title & another", "smooth", "<i>other</i>"} <= set(texts)
    assert any(text.startswith("training loss") for text in texts)
    assert {"−0.5", "0.5"} <= set(texts)  # ticks
    assert any(text.startswith("Adam ") for text in texts)  # the names of the optimizers
    contours = [path for path in paths if path.get("fill") == "none" and path.get("d").count("L") > 30]
    assert len(contours) > 10
    assert len(list(root.iter(f"{SVG}image"))) == 2
    assert all(image.get("href").startswith("data:image/png;base64,") for image in root.iter(f"{SVG}image"))
    numbers = re.findall(r"NaN|Infinity|undefined", " ".join(str(path.attrib) for path in root.iter()))
    assert numbers == []
    ends = page.evaluate("lossatlas.race.runs[0].map((run) => run.optimizer.color)")
    drawn = {path.get("stroke") for path in paths} | {path.get("fill") for path in paths}
    assert set(ends) <= drawn


@pytest.mark.parametrize("name", ["one", "curve"])
def test_a_training_and_a_curve_are_saved_as_vectors(opened, tmp_path, name):
    page = opened(name, "#at=50")
    _, paths, texts = paths_of(save(page, "#svg-map", tmp_path))
    assert len(paths) > 20
    assert len(texts) > 8
    assert page.locator("canvas").first.evaluate("(e) => e.width") > 100


def test_a_race_is_recorded(opened, tmp_path):
    page = opened("one", "#seconds=1&at=40", size=(700, 600))
    file = save(page, "#film", tmp_path)
    assert file.suffix == ".webm"
    content = file.read_bytes()
    assert content[:4] == b"\x1a\x45\xdf\xa3"  # EBML
    assert b"webm" in content[:64]
    assert len(content) > 5000
    assert content.find(b"\x44\x89\x88") > 0  # its duration
    assert page.locator("#film").text_content() == "Race as WebM"
    assert not page.evaluate("lossatlas.race.playing")
    assert state(page, "at") == state(page, "steps")


RECORDED = """
window.recorded = [];
for (const name of ["start", "stop"]) {
  const own = MediaRecorder.prototype[name];
  MediaRecorder.prototype[name] = function (...words) {
    window.recorded.push(performance.now());
    return own.apply(this, words);
  };
}
"""


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe: apt-get install ffmpeg")
@pytest.mark.parametrize("seconds", [1, pytest.param(3, marks=pytest.mark.full)])
def test_a_recorded_race_is_as_long_as_the_race(opened, tmp_path, seconds):
    """From its first step to its last one; its length is written in the file."""
    page = opened("one", f"#seconds={seconds}&at=40", size=(700, 600), script=RECORDED)
    file = save(page, "#film", tmp_path)
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration:packet=pts_time", "-of", "json", str(file)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    duration, times = float(said["format"]["duration"]), [float(packet["pts_time"]) for packet in said["packets"]]
    start, stop = page.evaluate("recorded")
    assert seconds < max(times) < duration
    assert max(times) < (stop - start) / 1000 + 0.2
    assert 3 < len(times) <= 30 * duration + 3  # 30 pictures a second at most


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("delete window.MediaRecorder;", "cannot record a film"),
        ("MediaRecorder.isTypeSupported = () => false;", "records no WebM"),
    ],
)
def test_a_browser_without_films_says_so(opened, script, reason):
    page = opened("one", script=script)
    button = page.locator("#film")
    assert button.is_disabled()
    assert reason in button.get_attribute("title")
    assert reason in page.locator("#about-exports").text_content()


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery") / "new" / "folder"
    pages = [
        GalleryPage("pair", "A <b>pair</b>", [Shown(surface(), "a"), Shown(surface(), "b")], "With & without."),
        GalleryPage("run", "A training", [Shown(surface(), "one", trajectory=PATH)]),
        GalleryPage("line", "A line", [Shown(surface(gy=None), "line")]),
    ]
    return folder, write_gallery(folder, pages, "Two & one")


@pytest.mark.full
def test_each_picture_of_a_gallery_opens_its_page(browser, gallery):
    folder, files = gallery
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in files)
    context, wrong, asked = browser.new_context(), [], []
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / "index.html").as_uri())
    assert page.locator("h1").text_content() == "Two & one"
    assert page.locator("h2").all_text_contents() == ["A <b>pair</b>", "A training", "A line"]
    sizes = page.locator("img").evaluate_all("(all) => all.map((e) => e.complete && e.naturalWidth)")
    assert all(size > 300 for size in sizes)
    for k in range(3):
        page.goto((folder / "index.html").as_uri())
        page.locator("a.card").nth(k).click()
        wait(page, "window.lossatlas && lossatlas.frameTime !== undefined")
    assert all(url.startswith((folder.as_uri(), "data:", "blob:")) for url in asked)
    context.close()
    assert wrong == []


def test_pictures_of_a_gallery_show_something(gallery):
    folder, _ = gallery
    for file in folder.glob("*.png"):
        image = np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("RGB")).astype(int)
        assert image.shape[1] > 1.5 * image.shape[0]
        inked = image.min(axis=2) < 200
        assert inked.mean() > (0.002 if file.stem == "line" else 0.1)
        assert inked[: image.shape[0] // 12].mean() < 0.9 or file.stem == "run"


def test_the_gallery_of_the_documentation_is_small_and_fetches_nothing(tmp_path):
    import sys

    sys.path.insert(0, str(ROOT / "docs"))
    import gallery as docs

    files = docs.write_live(tmp_path / "live")
    assert sum(file.stat().st_size for file in files) <= 10e6
    assert len(docs.LIVE) >= 5
    index = files[0].read_text()
    links = re.findall(r'(?:href|src)="([^"]+)"', index)
    assert len([link for link in links if link.endswith(".html")]) == len(docs.LIVE)
    for link in links:
        assert link == "data:," or (tmp_path / "live" / link).is_file()
    for file in files:
        if file.suffix == ".html":
            outside = re.findall(r'(?:href|src|url)\s*[=(]\s*["\']?(https?:[^"\')\s]+)', file.read_text())
            assert outside == []
    assert read_surface(ROOT / "docs/surfaces/gpt.h5").about["parameters"] > 100_000


@pytest.mark.full
def test_surfaces_in_one_scene_are_named_in_the_picture(opened, tmp_path):
    page = opened("two", "#overlay=true&at=40&theme=light", size=(900, 700))
    file = save(page, "#picture", tmp_path)
    image = np.asarray(Image.open(file).convert("RGB")).astype(int)
    foot = image[-4 * 170 :]
    blue = (foot[..., 2] > foot[..., 0] + 60) & (foot[..., 2] > foot[..., 1] + 20)
    orange = (foot[..., 0] > foot[..., 2] + 100) & (foot[..., 0] > foot[..., 1] + 40)
    assert blue.mean() > 0.01  # a bar of each surface
    assert orange.mean() > 0.01
