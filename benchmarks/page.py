"""What the page weighs and how long it takes: to its first picture, for a race, for a frame while it plays.

    python benchmarks/page.py

In headless Chromium with WebGL by software, which a graphics card does ten to a hundred times faster; Node for the
race.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from baselines import result

from lossatlas.io import read_surface
from lossatlas.landscape import Grid, Surface
from lossatlas.viewer import Shown, write_page
from lossatlas.viewer.document import static
from lossatlas.viewer.linker import link

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
RACE = """
import { descend, suitableRate } from "./descent.js";
import { makeInterpolant } from "./interpolant.js";
import { OPTIMIZERS } from "./optimizers.js";
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const s = makeInterpolant(Float64Array.from(given.x), Float64Array.from(given.x), Float64Array.from(given.v), true);
const times = [];
for (let k = 0; k < 20; k++) {
  s.steepness = undefined;
  const began = performance.now();
  for (const o of OPTIMIZERS) {
    const settings = { rate: suitableRate(s, o, "loss") };
    for (const [name, [value]] of Object.entries(o.settings)) settings[name] = value;
    descend(s, o, settings, [0.72, 0.8], { steps: 1000 });
  }
  times.push(performance.now() - began);
}
console.log(JSON.stringify(times));
"""


def of_side(side: int) -> Surface:
    """A rugged surface with loss and accuracy, all digits of which are of use to nobody who compresses."""
    grid = Grid.parse(f"-1:1:{side}", f"-1:1:{side}")
    x, y = np.meshgrid(grid.x, grid.y)
    values = 0.1 + x**2 + 3 * y**2 + 0.3 * np.sin(7 * x) * np.cos(5 * y) + 0.3
    rows = np.stack([values.ravel(), 100 / (1 + values.ravel())], 1)
    return Surface.of_values(grid, ["train_loss", "train_acc"]).with_cells(range(grid.size), rows)


def main() -> None:
    from playwright.sync_api import sync_playwright

    famous = read_surface(ROOT / "docs" / "surfaces" / "resnet56_cifar10.h5")
    script = link("benchmark", lambda name: RACE if name == "benchmark" else static(name))
    given = {"x": famous.grid.x.tolist(), "v": famous.fields["train_loss"].ravel().tolist()}
    run = [shutil.which("node") or "node", "-e", script]
    times = json.loads(subprocess.run(run, input=json.dumps(given), capture_output=True, text=True, check=True).stdout)
    first, median = times[0], float(np.median(times))
    figure = "page: 8 optimizers, 1,000 steps each, on the 51x51 surface of ResNet-56, the first time and later (Node)"
    result(figure, "< 100 ms", f"{first:.0f} ms, {median:.0f} ms", first < 100)
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=browser_path, args=FLAGS)
        for side, most in ((51, 1.0), (201, 3.0)):
            path = Path(folder) / f"{side}.html"
            write_page(path, [Shown(of_side(side), "a")])
            weight = path.stat().st_size / 1e6
            result(
                f"page: weight at {side}x{side}, loss and accuracy", f"< {most:g} MB", f"{weight:.2f} MB", weight < most
            )
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            began = time.perf_counter()
            page.goto(f"file://{path}#seconds=60")
            while not page.evaluate("Boolean(window.lossatlas && lossatlas.frameTime !== undefined)"):
                time.sleep(0.01)
            opened = time.perf_counter() - began
            page.click("#play")
            frames = []
            for _ in range(60):
                page.wait_for_timeout(50)
                frames.append(page.evaluate("lossatlas.frameTime"))
            figure = "from opening to the first picture; a frame while it plays (median, software WebGL)"
            result(f"page: {side}x{side}, {figure}", "", f"{opened:.1f} s; {np.median(frames):.0f} ms", None)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
