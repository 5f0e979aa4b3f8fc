"""Compare the time of a frame of two pages, by software WebGL, in one run.

    python benchmarks/page_frames.py OLD.html NEW.html

Each page turns by a few degrees a frame; frames of both are drawn in turns, so that other work on the machine slows
both alike.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FRAME = """() => {
  lossatlas.model.state.azimuth += 3;
  const began = performance.now();
  for (const { scene } of lossatlas.panels) {
    scene.draw();
    const { gl } = scene.renderer;
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));  // waits until the picture is there
  }
  return performance.now() - began;
}"""
SIZE = """for (const { scene } of lossatlas.panels) {
  Object.assign(scene.root.style, {width: '640px', height: '480px', flex: 'none'});
}"""


def main() -> None:
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=browser_path, args=FLAGS)
        pages = []
        for name in sys.argv[1:3]:
            page = browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
            page.goto(f"{Path(name).resolve().as_uri()}#at=100")
            page.wait_for_timeout(2000)
            page.evaluate(SIZE)
            pages.append(page)
        times = np.array([[page.evaluate(FRAME) for page in pages] for _ in range(40)])[5:]
        old, new = np.median(times, axis=0)
        print(f"a frame: {old:.1f} ms, {new:.1f} ms; ratio {new / old:.2f}")
        browser.close()


if __name__ == "__main__":
    main()
