"""Draw every kind of figure from the surfaces in docs/surfaces, into docs/pictures and docs/gallery.md: make gallery.

It also writes docs/_build/live, a folder of interactive pages that any static host can serve; the documentation has a
copy.

The surfaces are real ones, computed by docs/compute.sh. Rendered pictures need pyvista, the page's picture a Chromium.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lossatlas.io import read_projection, read_surface  # noqa: E402
from lossatlas.viewer import GalleryPage, Shown, write_gallery  # noqa: E402

DOCS = ROOT / "docs"
FILES = "docs/surfaces"
PAIR = f"{FILES}/resnet56_cifar10.h5 {FILES}/resnet56_noshort_cifar10.h5"
COVER = (
    f'--surf_file {FILES}/resnet56_noshort_cifar10.h5 {FILES}/resnet56_cifar10.h5 --labels "ResNet-56 without '
    'shortcuts" '
    "ResNet-56 --render --elev 44 --azim -112"
)
FASHION = f"{FILES}/resnet56_fashion.h5 {FILES}/resnet56_noshort_fashion.h5"
NAMES = '--labels "ResNet-56" "ResNet-56 without shortcuts"'
DPI = 130
COLUMNS = 3
FILMS = ("gif", "mp4")
BEGINNING = """# Gallery

Every kind of figure. Click a picture for its command. Each command draws a file of `docs/surfaces` in at most half a
minute; [compute.sh](compute.sh) computed these files, and `make gallery` draws all figures. They are written as PDF and
PNG, or in the formats of `--format`. `--columns 1` or `2` gives them the width of a paper's column or page.

```{raw} html
<iframe class="live" src="live/index.html" loading="lazy" title="Interactive pages"></iframe>
<p>Pages to turn, read off and descend. <a href="live/index.html">Open this gallery alone</a></p>
```

`lossatlas gallery` writes such a folder of your own surfaces.
"""
LIVE = (  # name of the page, title, text, surfaces by label, trajectory
    (
        "surfaces",
        "With and without shortcuts",
        "ResNet-56 on CIFAR-10, the paper's own networks: the same layers, with and without the shortcuts around them.",
        {"ResNet-56": "resnet56_cifar10", "ResNet-56 without shortcuts": "resnet56_noshort_cifar10"},
        "",
    ),
    (
        "training",
        "The path of a training",
        "Checkpoints of a ResNet-20, from the first epoch to the last, in the plane in which they differ most.",
        {"ResNet-20": "path"},
        "path_projection",
    ),
    (
        "between",
        "Between two networks",
        "Two perceptrons, at (0, 0) and (1, 0): a wall stands on the straight line between them; a valley leads around "
        "it.",
        {"two perceptrons": "curve_plane"},
        "",
    ),
    (
        "julia",
        "The picture of the Julia notebook",
        "A VGG with 13 weight layers on Fashion-MNIST, in the notebook's barycentric scheme.",
        {"VGG-13": "julia"},
        "",
    ),
    (
        "transformer",
        "A transformer",
        "A GPT of two layers, trained to predict the characters of Python's own documentation.",
        {"GPT": "gpt"},
        "",
    ),
)


@dataclass(frozen=True)
class Entry:
    """A picture, what it shows, and its command. ending: of the file that the command writes, after the given name."""

    picture: str
    title: str
    text: str
    command: str
    ending: str
    width: int = 620

    @property
    def shown(self) -> str:
        """The command, with a name for what it writes in the folder where one is."""
        if " -o " in self.command:
            return self.command
        stem, kind = self.picture.rsplit(".", 1)
        return f"{self.command} --out {stem}{f'.{kind}' if kind in FILMS else ''}"

    @property
    def shown_as(self) -> str:
        """The picture or the film in HTML."""
        if self.picture.endswith(".mp4"):
            return f'<video src="pictures/{self.picture}" width="{self.width}" autoplay loop muted playsinline></video>'
        return f'<img src="pictures/{self.picture}" width="{self.width}" alt="{self.title}">'

    @property
    def thumbnail(self) -> str:
        """A picture that stands for it: a video is shown by the GIF of the same name."""
        return self.picture.replace(".mp4", ".gif")


def three_directions() -> str:
    """The caption of directions.png, with the numbers of the files that it shows."""
    found = {}
    for kind in ("random", "gradient", "eigenvector"):
        with h5py.File(ROOT / FILES / f"along_{kind}.h5") as file:
            found[kind] = {name: file[name][()].ravel() for name in ("xcoordinates", "train_loss", "train_acc")}
    x, loss, accuracy = (found["random"][name] for name in ("xcoordinates", "train_loss", "train_acc"))
    step = min(abs(x[x != 0]))
    beside = [np.abs(found[kind]["xcoordinates"]) == step for kind in ("gradient", "eigenvector")]
    near, right = (
        np.concatenate([found[kind][name][k] for kind, k in zip(("gradient", "eigenvector"), beside, strict=True)])
        for name in ("train_loss", "train_acc")
    )
    return (
        "All three have length 1, so the axis is the distance in the space of the weights. Along the random direction "
        f"the loss rises from {loss[x == 0][0]:.3f} to at most {loss.max():.2f} at a distance of {abs(x).max():g}, and "
        f"the accuracy is at least {accuracy.min():.1f} %. At a distance of {step:g}, the smallest that was computed, "
        "the loss along the gradient and along the top eigenvector of the Hessian is "
        f"{near.min():.1f} to {near.max():.1f}, and the accuracy at most {right.max():.1f} %."
    )


def chart_of_run() -> str:
    """The caption of local_planes.png, with the numbers of the files that it shows."""
    with h5py.File(ROOT / FILES / "chart.h5") as file:
        distortion = 100 * file["distortion"][()]
    with h5py.File(ROOT / FILES / "chart_path.h5") as file:
        count = len(file["proj_xcoord"])
        change = 100 * np.abs(file["own_plane_difference"][()] / file["own_plane_loss"][()])
    return (
        f"A chart with a plane of velocity and acceleration at each of the {count} checkpoints (dots), blended between "
        "them. The strips show how much it distorts: the part of a cell's displacement from its nearest checkpoint "
        f"that lies outside the plane of this checkpoint ({np.median(distortion):.0f} % in the median, at most "
        f"{distortion.max():.0f} %), and by how much the loss in this plane differs at the borders between planes "
        f"({np.median(change):.0f} % in the median, at most {change.max():.0f} %)."
    )


ENTRIES = [
    Entry(
        "cover_light.png",
        "Two surfaces, rendered",
        "ResNet-56 without and with shortcuts, the paper's own networks on 1,000 images of CIFAR-10, on one scale: the "
        "height is ln(loss + 0.1), the colours are 40 % height and 60 % rank among the cells of both. Needs pyvista "
        '(`pip install ".[render]"`); with `--vmax 10` the height of this pair is ln(min(loss, 10) + 0.1), that of the '
        "original release's `h52vtp.py --log --zmax 10`. "
        "The dashed part of a pin lies behind the surface. The directions are drawn anew: hills and valleys are not at "
        "the places of the paper's Figure 1.",
        f"plot_2D.py {COVER} --dpi 250",
        "_train_loss_3drender.png",
        900,
    ),
    Entry(
        "cover_dark.png",
        "The same for dark pages and slides",
        "`--look dark`, `paper` or `print` holds for every figure, see [looks](howto/looks.md).",
        f"plot_2D.py {COVER} --look dark --dpi 250",
        "_train_loss_3drender.png",
        900,
    ),
    Entry(
        "famous_3d.png",
        "Two surfaces in 3-D, with axes",
        "Without pyvista: light, contours on the surface and on the floor. `--elev` and `--azim` move the camera, "
        "`--zlim` cuts the top off, and the figure states which share of the cells that leaves out.",
        f"plot_2D.py --surf_file {PAIR} {NAMES}",
        "_train_loss_3dsurface.png",
        900,
    ),
    Entry(
        "famous_contour.png",
        "Contours",
        "On one scale. A white cross is the lowest cell (of an accuracy the highest). Between the cells lines follow "
        "an interpolant, where leaving out every second row and column shows that it predicts them; otherwise they are "
        "straight from cell to cell.",
        f"plot_2D.py --surf_file {PAIR} {NAMES}",
        "_train_loss_2dcontour.png",
        900,
    ),
    Entry(
        "minima.png",
        "Minima and their persistence",
        "Beside the map the depth of each minimum: how far the lowest pass into a deeper one lies above its bottom. "
        "The axis is logarithmic, and the dashed line is the depth of `--depth`.",
        f"-m lossatlas minima --surf_file {FILES}/resnet56_noshort_cifar10.h5 --depth 2",
        "_train_loss_minima.png",
        800,
    ),
    Entry(
        "merge_tree.png",
        "The merge tree of a surface",
        "A line goes up from each minimum to the level at which its basin joins that of a deeper one; of this surface "
        "the 60 deepest of 132.",
        f"-m lossatlas minima --surf_file {FILES}/resnet56_noshort_cifar10.h5 --depth 2 --tree",
        "_train_loss_merge_tree.png",
        800,
    ),
    Entry(
        "volume.png",
        "A volume: three directions",
        "The part with a low loss, of which the eighth that faces the camera is cut away. Needs pyvista.",
        f"-m lossatlas plot-volume --surf_file {FILES}/volume.h5 --render",
        "_train_loss_cutaway.png",
        560,
    ),
    Entry(
        "slices.png",
        "The planes of a volume",
        "The same volume: planes side by side, on one scale.",
        f"-m lossatlas plot-volume --surf_file {FILES}/volume.h5",
        "_train_loss_slices.png",
        800,
    ),
    Entry(
        "overlay.png",
        "Two surfaces, one over the other",
        "The quarter next to the camera is left out of the upper one, which would hide the other. Contours on the "
        "floor tell them apart in grey too.",
        f"plot_2D.py --surf_file {FASHION} {NAMES} --layout overlay",
        "_train_loss_3dsurface.png",
    ),
    Entry(
        "landscapes_contour.png",
        "The bundled networks",
        "ResNet-56 after 12 epochs on Fashion-MNIST: with shortcuts the minimum is deeper and narrower.",
        f"plot_2D.py --surf_file {FASHION} {NAMES}",
        "_train_loss_2dcontour.png",
        900,
    ),
    Entry(
        "surface.png",
        "Filled contours",
        "",
        f"plot_2D.py --surf_file {FILES}/resnet56_fashion.h5",
        "_train_loss_2dcontourf.png",
        480,
    ),
    Entry(
        "heat.png",
        "Every cell as it was computed",
        "Any field of the file, here the accuracy.",
        f"plot_2D.py --surf_file {FILES}/resnet56_fashion.h5 --surf_name train_acc",
        "_train_acc_2dheat.png",
        480,
    ),
    Entry(
        "swing.mp4",
        "A film of turning surfaces",
        "Six seconds that begin again where they end: an MP4 or a WebM where ffmpeg is installed. Without `--swing` "
        "the surfaces turn once around; without `--render` they have axes, and pyvista is not needed.",
        f"-m lossatlas animate {COVER} --look dark --swing 50 --frames 90 --fps 15 --dpi 120",
        ".mp4",
        900,
    ),
    Entry(
        "swing.gif",
        "The same film as a GIF",
        "`--max_size 1` takes fewer colours until the file has at most 1 MB.",
        f"-m lossatlas animate {COVER} --look dark --swing 50 --frames 48 --fps 8 --dpi 46 --max_size 1",
        ".gif",
        534,
    ),
    Entry(
        "refine.gif",
        "How a surface is computed",
        "Coarse cells first, so that a figure drawn halfway already shows the shape.",
        f"-m lossatlas animate --surf_file {FILES}/resnet56_cifar10.h5 --kind refine",
        ".gif",
        760,
    ),
    Entry(
        "curve.png",
        "Loss and accuracy along a line",
        "",
        f"plot_1D.py --surf_file {FILES}/curve.h5",
        "_1d_loss_acc.png",
        520,
    ),
    Entry(
        "error.png",
        "The error alone",
        "",
        f"plot_1D.py --surf_file {FILES}/curve.h5",
        "_1d_train_err.png",
        460,
    ),
    Entry(
        "interpolation.png",
        "Between two networks",
        "Trained with batches of 128 (at 0) and of 2048 (at 1).",
        f"plot_1D.py --surf_file {FILES}/interpolation.h5",
        "_1d_loss_acc.png",
        520,
    ),
    Entry(
        "between.png",
        "Around a barrier",
        "Two perceptrons of different seeds: on the straight line, after their hidden units are put into the same "
        "order (--align), and along a Bezier curve that was trained (lossatlas train-curve).",
        f"plot_1D.py --surf_file {FILES}/naive.h5 {FILES}/aligned.h5 {FILES}/bezier.h5 --labels straight aligned curve",
        "_1d_compare.png",
        520,
    ),
    Entry(
        "curve_plane.png",
        "The plane of that curve",
        "Through both networks and the bend, whose direction is made orthogonal to the line between them.",
        f"plot_2D.py --surf_file {FILES}/curve_plane.h5",
        "_train_loss_2dcontour.png",
        560,
    ),
    Entry(
        "recalibrated.png",
        "BatchNorm and a barrier",
        "The same two networks as above, with the statistics of BatchNorm interpolated, and estimated again at every "
        "point (--bn recalibrate).",
        f"plot_1D.py --surf_file {FILES}/kept.h5 {FILES}/recalibrated.h5 --labels interpolated recalibrated",
        "_1d_compare.png",
        520,
    ),
    Entry(
        "three.png",
        "Through three networks, with and without recalibration",
        "ResNet-20, trained with small batches (0, 0), with large ones (1, 0), and from another seed (0, 1), and their "
        "average. Left the statistics of BatchNorm are interpolated too, right they are estimated again at every "
        "point.",
        f"plot_2D.py --surf_file {FILES}/three_kept.h5 {FILES}/three_recalibrated.h5 --labels interpolated "
        "recalibrated --vmax 10",
        "_train_loss_2dcontour.png",
        900,
    ),
    Entry(
        "julia.png",
        "The picture of the Julia notebook",
        "Its VGG with 13 weight layers, trained on Fashion-MNIST, one batch, and its barycentric scheme (--scheme "
        "barycentric), which is no plane: every point is scaled back to the size of the network. examples/julia/run.sh "
        "computes it. Cells above five decades are left out, with a hatched floor below them, and the figure states "
        "their share.",
        f"plot_2D.py --surf_file {FILES}/julia.h5 --log --infinite largest --elev 40 --azim 130",
        "_train_loss_3dsurface.png",
    ),
    Entry(
        "by_layer.png",
        "Sensitivity to each layer",
        "One layer moved at a time (--per_layer), and the trace of its block of the Hessian.",
        f"-m lossatlas plot-layers --surf_file {FILES}/layers.h5 --spectrum_file {FILES}/spectrum.h5",
        "_train_loss_layers.png",
        700,
    ),
    Entry(
        "sharpness.png",
        "How far the loss rises within a distance",
        "ResNet-20 trained with small and with large batches. Solid: at worst, as far as ascent has found; dashed: on "
        "average over random directions.",
        f"-m lossatlas plot-sharpness --sharpness_file {FILES}/sharpness_small.h5 {FILES}/sharpness_large.h5 "
        '--labels "small batch" "large batch"',
        "_rises.png",
        760,
    ),
    Entry(
        "repeats.png",
        "How much depends on the direction that was drawn",
        "Eight random directions (thin lines), their mean, and the 95 % confidence interval of the mean over all "
        "directions. The axis of the loss is logarithmic where the mean spans more than a factor of 20. "
        "Several files compare networks.",
        f"plot_1D.py --surf_file {FILES}/repeats.h5",
        "_1d_loss_err_repeat.png",
        520,
    ),
    Entry(
        "directions.png",
        "How little a random direction shows",
        three_directions(),
        f"plot_1D.py --surf_file {FILES}/along_random.h5 {FILES}/along_gradient.h5 {FILES}/along_eigenvector.h5 "
        '--labels random gradient "top eigenvector"',
        "_1d_compare.png",
        540,
    ),
    Entry(
        "trajectory.png",
        "A training run on its surface",
        "In the plane of the two principal components of the checkpoints; each checkpoint has the colour of its own "
        "loss, and the star is the last one.",
        f"plot_2D.py --surf_file {FILES}/path.h5 --proj_file {FILES}/path_projection.h5",
        "_train_loss_2dcontour.png",
    ),
    Entry(
        "trajectory_3d.png",
        "A training run in three dimensions",
        "Each checkpoint is marked in the colour of its own loss. The path is faint where the surface hides it.",
        f"plot_2D.py --surf_file {FILES}/path.h5 --proj_file {FILES}/path_projection.h5 --elev 45 --azim=-120",
        "_train_loss_3dsurface.png",
    ),
    Entry(
        "local_planes.png",
        "The loss along a training run",
        chart_of_run(),
        f"plot_2D.py --surf_file {FILES}/chart.h5 --proj_file {FILES}/chart_path.h5",
        "_train_loss_2dcontourf.png",
    ),
    Entry(
        "along_path.png",
        "Why the contours and the path disagree",
        "The surface is that of the plane, and of the last checkpoint's BatchNorm statistics. Checkpoints lie off the "
        "plane and have their own statistics, so their losses differ.",
        f"plot_2D.py --surf_file {FILES}/path.h5 --proj_file {FILES}/path_projection.h5",
        "_train_loss_along_path.png",
        520,
    ),
    Entry(
        "walk.gif",
        "A training run as a film",
        "",
        f"-m lossatlas animate --surf_file {FILES}/path.h5 --kind path --proj_file {FILES}/path_projection.h5 --frames "
        "60",
        ".gif",
        760,
    ),
    Entry(
        "spectrum.png",
        "The spectrum of a Hessian",
        "Resolved eigenvalues are counted as they are; the rest of the density is estimated.",
        f"-m lossatlas plot-spectrum --spectrum_file {FILES}/spectrum.h5",
        "_density.png",
        760,
    ),
    Entry(
        "spectra.png",
        "The spectra of a Hessian and of its Gauss-Newton matrix",
        "A perceptron on two spirals. Grey bars: the largest eigenvalues of the Hessian; red: the part of each that "
        "comes from the Gauss-Newton matrix.",
        f"-m lossatlas plot-spectrum --spectrum_file {FILES}/spirals_hessian.h5 {FILES}/spirals_ggn.h5",
        "_spectra.png",
        900,
    ),
    Entry(
        "chains.png",
        "A local learning coefficient",
        "Four chains of Langevin dynamics around a network, and the estimate from each.",
        f"-m lossatlas plot-learning-coefficient --coefficient_file {FILES}/spirals_coefficient.h5",
        "_chains.png",
        760,
    ),
    Entry(
        "coefficients.png",
        "Learning coefficients along a training",
        "The checkpoints of a run, with two standard errors; the first one is no minimum, and its estimate hollow.",
        f"-m lossatlas plot-learning-coefficient --coefficient_file {FILES}/spirals_run.h5",
        "_coefficients.png",
        640,
    ),
    Entry(
        "layers.png",
        "Curvature of each layer",
        "",
        f"-m lossatlas plot-spectrum --spectrum_file {FILES}/spectrum.h5",
        "_layers.png",
        760,
    ),
    Entry(
        "activations.png",
        "Curvature with respect to the outputs of layers",
        "",
        f"-m lossatlas plot-spectrum --spectrum_file {FILES}/spectrum.h5",
        "_activations.png",
        560,
    ),
    Entry(
        "eigen.png",
        "The extreme eigenvalues along a line",
        "",
        f"plot_1D.py --surf_file {FILES}/eigen.h5",
        "_1d_eig.png",
        520,
    ),
    Entry(
        "eigen_ratio.png",
        "How far a plane is from convex",
        "|smallest / largest| eigenvalue of the Hessian, from 0 to the largest value; an outlier is hatched and its "
        "value stated. Cells where one of the eigenvalues is not resolved are marked.",
        f"plot_2D.py --surf_file {FILES}/eigen_map.h5",
        "_min_eig_max_eig_abs_ratio_heat_sns.png",
        480,
    ),
    Entry(
        "page.png",
        "A page to turn and descend",
        "One file of a few hundred kilobytes, to be opened in any browser: optimizers race over the surface.",
        f"view_surface.py {PAIR} {NAMES} -o compare.html",
        ".html",
        900,
    ),
]


def words_of(entry: Entry, base: Path) -> list[str]:
    """Return the words of a command that writes to `base`, with the resolution of the gallery."""
    words = shlex.split(entry.command.split(" -o ")[0])
    if entry.ending.endswith(".png"):
        return [*words, "--out", str(base), "--format", "png", *([] if "--dpi" in words else ["--dpi", str(DPI)])]
    return [*words, "--out", f"{base}{entry.ending}"]  # a film or a page is one file


def drawn(entry: Entry, base: Path) -> Path:
    """Return the file of a picture that the command has written to `base`."""
    made = Path(f"{base}{entry.ending}")  # of curves that are steep, the name says so
    return made if made.exists() else made.with_name(made.name.replace(".png", "_log.png"))


def draw(work: Path) -> None:
    """Run each command once, with its output in `work`, and take the pictures from there."""
    bases: dict[str, Path] = {}
    for entry in ENTRIES:
        target = DOCS / "pictures" / entry.picture
        if entry.command not in bases:
            bases[entry.command] = base = work / str(len(bases))
            subprocess.run([sys.executable, *words_of(entry, base)], cwd=ROOT, check=True)
        made = drawn(entry, bases[entry.command])
        if entry.picture == "page.png":
            photograph(made, target)
        else:
            shutil.copy(made, target)


def photograph(page: Path, target: Path) -> None:
    """The page in a browser, in the middle of a race."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print(f"no Chromium here: {target.name} stays as it is")
        return
    with sync_playwright() as p:
        arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = p.chromium.launch(executable_path=chromium, args=arguments)
        view = browser.new_page(viewport={"width": 1400, "height": 900})
        view.goto(page.as_uri())
        view.wait_for_timeout(1500)
        view.keyboard.press("Space")
        view.wait_for_timeout(6000)
        view.keyboard.press("Space")
        view.wait_for_timeout(1500)
        view.screenshot(path=str(target))
        browser.close()


def write_live(folder: Path) -> list[Path]:
    """Write the interactive pages and their index; returns the files."""
    pages = []
    for name, title, words, surfaces, run in LIVE:
        trajectory = read_projection(DOCS / "surfaces" / f"{run}.h5") if run else None
        shown = [
            Shown(read_surface(DOCS / "surfaces" / f"{file}.h5"), label, trajectory=trajectory)
            for label, file in surfaces.items()
        ]
        pages.append(GalleryPage(name, title, shown, words))
    return write_gallery(folder, pages)


def wrapped(command: str, width: int = 78) -> str:
    """The command on lines of at most `width` characters, where its words allow it."""
    lines = [""]
    for word in re.findall(r'(?:[^\s"]|"[^"]*")+', command):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width - 2:  # 2: the backslash
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return " \\\n".join(lines)


def anchor(title: str) -> str:
    """The anchor of a heading, as GitHub and Sphinx make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def thumbnails() -> str:
    """A table of linked thumbnails; the pages show it as a grid."""
    cells = [
        f'[<img src="pictures/{entry.thumbnail}" width="220" alt=""> {entry.title}](#{anchor(entry.title)})'
        for entry in ENTRIES
    ]
    cells += [""] * (-len(cells) % COLUMNS)
    rows = [f"| {' | '.join(cells[k : k + COLUMNS])} |" for k in range(0, len(cells), COLUMNS)]
    head = f"|{' |' * COLUMNS}\n|{'---|' * COLUMNS}\n"
    return f'<div class="thumbs">\n\n{head}{chr(10).join(rows)}\n\n</div>\n'


def text() -> str:
    parts = [BEGINNING, thumbnails()]
    for entry in ENTRIES:
        said = f"{entry.text}\n\n" if entry.text else ""
        command = wrapped(f"python {entry.shown}")
        parts.append(f"## {entry.title}\n\n{said}{entry.shown_as}\n\n```bash\n{command}\n```\n")
    return "\n".join(parts)


def main() -> None:
    (DOCS / "pictures").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
    (DOCS / "gallery.md").write_text(text())
    weight = sum(file.stat().st_size for file in (DOCS / "pictures").iterdir())
    print(f"drew {len(ENTRIES)} pictures ({weight / 1e6:.1f} MB) and docs/gallery.md")
    live = write_live(DOCS / "_build" / "live")
    size = sum(file.stat().st_size for file in live)
    print(f"wrote {len(LIVE)} interactive pages ({size / 1e6:.1f} MB), ready for any static host: {live[0]}")


if __name__ == "__main__":
    main()
