"""Figures of a surface in memory: each function takes an axis, or makes a figure with pyplot, and returns the figure.

    contour(surface); filled(surface, ax); heat(surface, name="train_acc"); solid(surface); curve(line)

No function chooses or changes matplotlib's backend, and none shows or saves a figure.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, Unpack, cast

import numpy as np

from lossatlas.choices import LookName, PlotKind, SpectrumPart
from lossatlas.errors import BadUsage, counted, named
from lossatlas.figures import (
    coefficient_path_plots,
    contour_plots,
    learning_coefficient_plots,
    sharpness_plots,
    spectra_plots,
    spectrum_plots,
)
from lossatlas.figures.axis_ticks import set_scale_ticks
from lossatlas.figures.colour_scale import ColourScale
from lossatlas.figures.curve_plots import draw_lines, draw_rows, fields_of_curve
from lossatlas.figures.kinds import FLAT, OF_SURFACE, Kind, words_of
from lossatlas.figures.line_plots import note_incomplete
from lossatlas.figures.matplotlib_style import Looks, changed_by_user, users_style
from lossatlas.figures.own_axes import figure_and_axes
from lossatlas.figures.palette import checked_look, run_colour
from lossatlas.figures.panels import Panel, surface_panel
from lossatlas.figures.plot_options import (
    ContourKeywords,
    CurveKeywords,
    PlotKeywords,
    PlotOptions,
    SolidKeywords,
    with_keywords,
)
from lossatlas.figures.plotted_fields import field_title, mathtext
from lossatlas.figures.solid_layout import LABEL_MARGIN, keep_labels_inside
from lossatlas.figures.surface_plots import draw_solid
from lossatlas.figures.trajectory_plots import draw_trajectory, path_axis_names
from lossatlas.figures.volume_plots import slice_panels, slices_figure
from lossatlas.io.spectrum_files import Findings
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D


class HasFindings(Protocol):
    """A result of `lossatlas.spectrum`."""

    @property
    def findings(self) -> Findings:
        """The content of its file."""
        ...


PATH_MARGIN = 0.14  # around a path without a surface, for the names of its ends


@with_keywords(PlotKeywords)
def plot(
    surface: Surface, ax: "Axes | None" = None, kind: PlotKind | str = "", **keywords: Unpack[PlotKeywords]
) -> "Figure":
    """Draw a surface as a curve, as contours or in another way.

    Keywords that do not apply to the kind are refused. Figures follow what you have changed in matplotlib's `rcParams`;
    on an Axes of yours no text and no font changes.

    Args:
        surface: A curve, a plane or a volume.
        ax: Axes to draw on; None makes a figure.
        kind: "curve", "contour", "filled", "heat", "solid" or "slices"; by default a curve, contours of a plane, or
            slices of a volume.
        field: Field to draw (by default train_loss, or the first one), an expression of fields such as
            "exp(train_loss)", or a function of the surface that returns an array of the grid's shape.
        name: The same as `field`.
        title: Title; "" for none.
        vmin: Lowest value of the colours, or of the vertical axis of a curve.
        vmax: Highest value of them.
        vlevel: Distance of the contours, on a linear scale.
        levels: Number of the contours, or their values.
        log: Take a logarithmic scale (True) or a linear one (False); None decides by the data.
        cmap: Colour map of matplotlib; by default `rcParams["image.cmap"]` where you have changed it.
        colours: "value" for colours in proportion to the height, "blended" for 40 % value and 60 % rank among the
            cells; by default blended where 70 % of the cells lie in a fifth of the range. Ticks of the colour bar are
            exact in both.
        look: "paper" (the default), "dark" or "print"; on an Axes of yours it chooses the colours of what is drawn.
        colorbar: Draw the colour bar; by default in all kinds that have colours but "solid".
        elev: Elevation of the camera in degrees ("solid").
        azim: Azimuth of the camera in degrees ("solid").
        zlim: Value at which the surface is cut off ("solid").
        figsize: Width and height in inches.
        columns: Make the figure as wide as 1 or 2 columns of a page.
        color, label, linestyle, linewidth, marker, markersize, alpha, zorder: As in matplotlib's `plot` ("curve").

    Returns:
        The figure.

    Raises:
        BadUsage: The kind or a keyword is unknown, or does not suit the surface.

    Example:
        >>> from lossatlas.io import read_surface
        >>> fig = plot(read_surface("docs/surfaces/resnet56_cifar10.h5"), kind="filled", vmax=10)
    """
    if isinstance(ax, str):
        write = f"kind={ax!r}" if Kind.named(ax, OF_SURFACE) else f".plot().savefig({ax!r}) to save the figure"
        raise BadUsage(f"{ax!r} is no Axes of matplotlib: write {write}")
    return FUNCTIONS[checked_kind(kind) if kind else usual_kind(surface)](surface, ax, **keywords)


def usual_kind(surface: Surface) -> Kind:
    """Return the kind of the figure of a surface where none is named."""
    if surface.grid.z is not None:
        return Kind.SLICES
    return Kind.CURVE if surface.grid.y is None or surface.rows_of else Kind.CONTOUR


def checked_kind(word: PlotKind | str) -> Kind:
    """Return the kind of a figure of a surface.

    Raises:
        BadUsage: There is no such kind.
    """
    if (kind := Kind.named(word, OF_SURFACE)) is None:
        meant = Kind.meant_by(word, OF_SURFACE)
        raise BadUsage(f"unknown kind of figure '{word}'{meant}: choose from {', '.join(words_of(OF_SURFACE))}")
    return kind


@with_keywords(ContourKeywords)
def contour(surface: Surface, ax: "Axes | None" = None, **keywords: Unpack[ContourKeywords]) -> "Figure":
    """Draw contour lines with their values; keywords as for `plot`.

    Args:
        surface: A surface over a plane.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The figure.

    Raises:
        BadUsage: The surface is a curve, has no such field, nothing of it is finite, or a keyword does not apply.

    Example:
        >>> from lossatlas.io import read_surface
        >>> fig = contour(read_surface("docs/surfaces/resnet56_cifar10.h5"), levels=[0.5, 1, 2, 4], cmap="magma")
    """
    return _draw_plane(Kind.CONTOUR, surface, ax, keywords)


@with_keywords(ContourKeywords)
def filled(surface: Surface, ax: "Axes | None" = None, **keywords: Unpack[ContourKeywords]) -> "Figure":
    """Draw filled contours; arguments, result and errors as for `contour`.

    Example:
        >>> from lossatlas.io import read_surface
        >>> fig = filled(read_surface("docs/surfaces/resnet56_cifar10.h5"), vmax=10)
    """
    return _draw_plane(Kind.FILLED, surface, ax, keywords)


@with_keywords(ContourKeywords)
def heat(surface: Surface, ax: "Axes | None" = None, **keywords: Unpack[ContourKeywords]) -> "Figure":
    """Draw a coloured rectangle for each cell; arguments, result and errors as for `contour`.

    Example:
        >>> from lossatlas.io import read_surface
        >>> fig = heat(read_surface("docs/surfaces/resnet56_cifar10.h5"), field="train_acc")
    """
    return _draw_plane(Kind.HEAT, surface, ax, keywords)


def _draw_plane(
    kind: Kind,
    surface: Surface,
    ax: "Axes | None",
    keywords: ContourKeywords,
    trajectories: Sequence[Projection] = (),
) -> "Figure":
    options = PlotOptions.of(kind, keywords)
    name, panel = plane_panel(surface, options, "a line has no contours: draw it with curve()")
    with figure_and_axes(ax, options, size=_plane_size(options, panel)) as (fig, axis):
        scale, bar = options.scale([panel], name), options.colorbar is not False
        runs = [run.of(name) for run in trajectories]
        contour_plots.draw_flat(
            fig,
            [axis],
            [panel],
            scale,
            name,
            draw_panel=contour_plots.DRAW_FLAT[kind],
            paths=runs,
            colour_bar=bar,
            title=options.title,
            own=ax is None,
        )
        if trajectories:
            axis.set(**dict(zip(("xlabel", "ylabel"), path_axis_names(trajectories[0]), strict=True)))
    return fig


def _plane_size(options: PlotOptions, panel: Panel) -> tuple[float, float]:
    """Return width and height of a new figure that has the shape of its plane, unless the user chooses them."""
    if options.figsize is not None or (not options.columns and changed_by_user("figure.figsize")):
        return options.size
    width, height = contour_plots.flat_size([panel])
    return (options.size[0], options.size[0] * height / width) if options.columns else (width, height)


def plane_panel(surface: Surface, options: PlotOptions, refusal: str, label: str = "") -> tuple[str, Panel]:
    """Prepare the field of a plane for drawing.

    Args:
        surface: A surface.
        options: Options with its field.
        refusal: Message where the surface is a line.
        label: Name of the surface; by default the title of the field.

    Returns:
        Name of the field, and its panel.

    Raises:
        BadUsage: The surface is no plane of at least 2 x 2 cells, or has no such field.
    """
    if surface.grid.y is None:
        raise BadUsage(refusal)
    if surface.rows_of:
        raise BadUsage(f"curves of {surface.rows_of} are no plane: draw them with curve()")
    if surface.grid.z is not None:
        middle = surface.grid.z[len(surface.grid.z) // 2]
        raise BadUsage(f"a volume is no plane: draw it with slices(), or one of its planes, .plane_at({middle:.6g})")
    if min(surface.grid.shape) < 2:
        raise BadUsage(f"the grid {surface.grid} is no plane: it needs at least 2 points on each axis")
    surface, name = options.find(surface)
    return name, surface_panel(surface, name, label or field_title(name))


@with_keywords(ContourKeywords)
def slices(surface: Surface, ax: "Axes | None" = None, **keywords: Unpack[ContourKeywords]) -> "Figure":
    """Draw planes of a volume side by side as filled contours on one scale; keywords as for `plot`.

    Args:
        surface: A volume.
        ax: None: the slices are a figure of their own.

    Returns:
        The figure.

    Raises:
        BadUsage: The surface is no volume, has no such field, nothing of it is finite, a keyword does not apply, or an
            Axes is given.

    Example:
        >>> import numpy as np
        >>> from lossatlas.landscape import Grid
        >>> axis = np.linspace(-1, 1, 5)
        >>> volume = Surface.of_values(Grid(axis, axis, axis), ["train_loss"])
        >>> volume.values["train_loss"][:] = (axis**2)[:, None, None] + (axis**2)[:, None] + axis**2
        >>> volume.done[:] = True
        >>> len(slices(volume).axes)  # five planes, an empty place and the colour bar
        7
    """
    options = PlotOptions.of(Kind.SLICES, keywords)
    if ax is not None:
        raise BadUsage(f"{named('ax')}: slices are a figure of their own: leave it out, or draw one .plane_at(z) on it")
    if surface.grid.z is None:
        raise BadUsage("this is no volume, and has no slices: draw it with plot()")
    surface, name = options.find(surface)
    with users_style(options.columns, options.look):
        from matplotlib import pyplot

        scale = options.scale(slice_panels(surface, name), name)
        fig = slices_figure(pyplot, surface, scale, name, colour_bar=options.colorbar is not False)
        if options.title:
            fig.suptitle(mathtext(options.title))
        return fig


@with_keywords(SolidKeywords)
def solid(surface: Surface, ax: "Axes | None" = None, **keywords: Unpack[SolidKeywords]) -> "Figure":
    """Draw a surface in three dimensions; keywords as for `plot`.

    Args:
        surface: A surface over a plane.
        ax: Axes to draw on, made with projection="3d"; None makes a figure.

    Returns:
        The figure.

    Raises:
        BadUsage: As for `contour`, or the whole surface lies above zlim.

    Example:
        >>> from lossatlas.io import read_surface
        >>> fig = solid(read_surface("docs/surfaces/resnet56_cifar10.h5"), elev=40, azim=30)
    """
    options = PlotOptions.of(Kind.SOLID, keywords)
    name, panel = plane_panel(surface, options, "a line is no solid: draw it with curve()")
    with figure_and_axes(ax, options, solid=True) as (fig, axis):
        scale = options.scale([panel], name)
        draw_solid(cast("Axes3D", axis), [panel], scale, name, zlim=options.zlim, camera=options.camera)
        if options.title:
            axis.set_title(mathtext(options.title))
        right = draw_solid_bar(fig, axis, scale, name, new=ax is None) if options.colorbar else 1.0
        if ax is None:
            keep_labels_inside(fig, cast("Axes3D", axis), (0, 0, right, 1))
    return fig


def draw_solid_bar(fig: "Figure", axis: "Axes", scale: ColourScale, name: str, *, new: bool) -> float:
    """Draw a colour bar beside an axis with three dimensions.

    Args:
        fig: The figure.
        axis: The axis.
        scale: Its colour scale.
        name: Name of the field.
        new: The figure is new, and the bar stands at its right edge.

    Returns:
        Left end of the bar with its labels, as a share of the figure's width.
    """
    from matplotlib import cm

    colours = cm.ScalarMappable(scale.norm, scale.colour_map)
    looks: Looks = {"extend": scale.extend, "label": scale.bar_title(name)}
    where: Looks = {"cax": fig.add_axes((0.9, 0.2, 0.025, 0.6))} if new else {"ax": axis, "shrink": 0.6, "pad": 0.25}
    bar = fig.colorbar(colours, **where, **looks)
    set_scale_ticks(bar.ax.yaxis, scale, 8)
    if not new:
        return 1.0
    fig.draw_without_rendering()
    box, place = bar.ax.get_tightbbox(), bar.ax.get_position()
    assert box is not None
    shift = 1 - LABEL_MARGIN / fig.get_figwidth() - box.x1 / fig.bbox.width
    bar.ax.set_position((place.x0 + shift, place.y0, place.width, place.height))
    return float(box.x0 / fig.bbox.width + shift)


@with_keywords(CurveKeywords)
def curve(surface: Surface, ax: "Axes | None" = None, **keywords: Unpack[CurveKeywords]) -> "Figure":
    """Draw a field along a line, with a band of two standard errors where they are known; keywords as for `plot`.

    Of a surface whose rows are layers, each row is a curve; of repeats, each row is a thin one beside the mean with its
    confidence interval of 95 % (Student's t).

    Args:
        surface: A curve.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The figure; without `field` it shows all losses, or the eigenvalues.

    Raises:
        BadUsage: The surface is a plane, has no such field, or a keyword does not apply.

    Example:
        >>> from lossatlas.io import read_surface
        >>> fig = curve(read_surface("docs/surfaces/interpolation.h5"), field="exp(train_loss)", color="black")
    """
    options = PlotOptions.of(Kind.CURVE, keywords)
    if surface.grid.y is not None and not surface.rows_of:
        raise BadUsage("a plane is no curve: draw it with contour(), heat() or solid()")
    if surface.rows_of:
        surface, name = options.find(surface)
        with figure_and_axes(ax, options) as (fig, axis):
            draw_rows(axis, surface, name, options)
        return fig
    lines = fields_of_curve(surface, options)
    with figure_and_axes(ax, options) as (fig, axis):
        draw_lines(axis, lines, options)
        note_incomplete(axis, surface)
    return fig


def path(
    coordinates: np.ndarray,
    explained: Sequence[float] | np.ndarray = (),
    ax: "Axes | None" = None,
    look: LookName | str | None = None,
) -> "Figure":
    """Draw a trajectory in its plane, with a star at the last checkpoint.

    Args:
        coordinates: (checkpoints, 2) coordinates in the plane.
        explained: Shares of the variance that the two axes explain, from 0 to 1; empty where they are not known.
        ax: Axis to draw on; None makes a figure.
        look: "paper", "dark" or "print"; None for "paper".

    Returns:
        The figure.

    Raises:
        BadUsage: There is no such look.

    Example:
        >>> fig = path(np.array([[3.0, 1.0], [1.0, 0.5], [0.0, 0.0]]), explained=(0.9, 0.05))
    """
    return paths([Projection(coordinates[:, 0], coordinates[:, 1], explained=tuple(explained))], ax, look)


def paths(runs: Sequence[Projection], ax: "Axes | None" = None, look: LookName | str | None = None) -> "Figure":
    """Draw training runs in their plane, without a surface, with a star at the last checkpoint of each.

    Args:
        runs: Checkpoints of each run in the plane.
        ax: Axis to draw on; None makes a figure.
        look: Look of the figure, as for `plot`.

    Returns:
        The figure.

    Example:
        >>> from lossatlas.io import read_projection
        >>> fig = paths([read_projection("docs/surfaces/path_projection.h5")])
    """
    with figure_and_axes(ax, PlotOptions(look=checked_look(look))) as (fig, axis):
        for k, run in enumerate(runs):
            draw_trajectory(axis, run, colour=run_colour(k, len(runs)))
        if len(runs) > 1:
            axis.legend(fontsize="x-small")
        if ax is None:
            axis.margins(PATH_MARGIN)
    return fig


@with_keywords(ContourKeywords)
def path_on(
    surface: Surface,
    run: Projection | Sequence[Projection],
    ax: "Axes | None" = None,
    kind: PlotKind | str = "contour",
    **keywords: Unpack[ContourKeywords],
) -> "Figure":
    """Draw a surface with the path of a training run on it; keywords as for `plot`.

    Args:
        surface: A surface over the plane of the path.
        run: Checkpoints in the plane, of one run or of several. Where their own losses are known, each has the colour
            of its loss.
        ax: Axes to draw on; None makes a figure.
        kind: "contour", "filled" or "heat".

    Returns:
        The figure.

    Raises:
        BadUsage: The surface is a curve, the kind is another one, or a keyword does not apply.

    Example:
        >>> from lossatlas.io import read_projection, read_surface
        >>> surface = read_surface("docs/surfaces/path.h5")
        >>> fig = path_on(surface, read_projection("docs/surfaces/path_projection.h5"), kind="filled")
    """
    found = Kind.named(kind, FLAT)
    if found is None:
        raise BadUsage(f"{named('kind', kind)} shows no path: choose from {', '.join(words_of(FLAT))}")
    return _draw_plane(found, surface, ax, keywords, [run] if isinstance(run, Projection) else run)


def spectrum(
    findings: HasFindings | Findings, kind: SpectrumPart | str = "density", look: LookName | str | None = None
) -> "Figure":
    """Draw the spectrum of a Hessian.

    Args:
        findings: A result of `lossatlas.spectrum`, or the content of a spectrum file.
        kind: "density", "layers" or "activations".
        look: "paper", "dark" or "print"; None for "paper".

    Returns:
        The figure.

    Raises:
        BadUsage: The kind or the look is unknown, the kind is not computed yet, or this is no spectrum.

    Example:
        >>> from lossatlas.io import read_findings
        >>> fig = spectrum(read_findings("docs/surfaces/spectrum.h5"))
    """
    import matplotlib.pyplot as plt

    content = findings_of(findings)
    there = spectrum_plots.held_kinds(content)
    found = Kind.named(kind, there)
    if found is None:
        raise BadUsage(f"no figure of '{kind}': there are {', '.join(words_of(there)) or 'none yet'}")
    with users_style(look=checked_look(look)):
        return spectrum_plots.DRAW_SPECTRUM[found].draw(plt, content)


def chains(findings: Findings, look: LookName | str | None = None) -> "Figure":
    """Draw the chains of a local learning coefficient.

    Args:
        findings: Content of a file with at least one chain.
        look: "paper", "dark" or "print"; None for "paper".

    Returns:
        The figure.

    Raises:
        BadUsage: The look is unknown.

    Example:
        >>> import torch, lossatlas
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> found = lossatlas.learning_coefficient(torch.nn.Linear(2, 2), data, chains=2, draws=20, progress=False)
        >>> fig = chains(found.findings)
    """
    import matplotlib.pyplot as plt

    with users_style(look=checked_look(look)):
        return learning_coefficient_plots.chains_figure(plt, findings)


def rises(findings: Findings, look: LookName | str | None = None) -> "Figure":
    """Draw the rise of the loss over the radius.

    Args:
        findings: Content of a sharpness file with at least one radius.
        look: "paper", "dark" or "print"; None for "paper".

    Returns:
        The figure.

    Raises:
        BadUsage: The look is unknown, or no radius is finished.

    Example:
        >>> import torch, lossatlas
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> found = lossatlas.sharpness(torch.nn.Linear(2, 2), data, rho=[0.1], adaptive_rho=[], progress=False)
        >>> fig = rises(found.findings)
    """
    import matplotlib.pyplot as plt

    if not any(name.endswith("/rises") for name in findings.arrays):
        raise BadUsage("no radius is finished yet: there is nothing to draw")
    with users_style(look=checked_look(look)):
        return sharpness_plots.rises_figure(plt, [findings], [""])


def coefficients(files: Sequence[Findings], labels: Sequence[str], look: LookName | str | None = None) -> "Figure":
    """Draw the local learning coefficients of the checkpoints of runs, beside their losses.

    Args:
        files: Contents of files of runs, each with at least one checkpoint.
        labels: A name for each.
        look: "paper", "dark" or "print"; None for "paper".

    Returns:
        The figure.

    Raises:
        BadUsage: The look is unknown, there is not one label for each file, or one holds no finished checkpoint.

    Example:
        >>> import torch, lossatlas
        >>> nets, data = [torch.nn.Linear(2, 2) for _ in range(3)], (torch.randn(20, 2), torch.randint(0, 2, (20,)))
        >>> found = lossatlas.learning_coefficients(nets[0], nets, data, chains=2, draws=20, progress=False)
        >>> fig = coefficients([found.findings], ["run"])
    """
    import matplotlib.pyplot as plt

    if len(labels) != len(files):
        raise BadUsage(f"{named('labels')} gives {len(labels)} names for {len(files)} runs")
    if not all(coefficient_path_plots.estimated(each) for each in files):
        raise BadUsage("a run has no finished checkpoint yet: there is nothing to draw")
    with users_style(look=checked_look(look)):
        return coefficient_path_plots.coefficient_paths_figure(plt, files, [mathtext(label) for label in labels])


def spectra(
    findings: Sequence[HasFindings | Findings], labels: Sequence[str], look: LookName | str | None = None
) -> "Figure":
    """Draw the densities of several spectra in one figure, such as those of a Hessian and its Gauss-Newton matrix.

    Args:
        findings: Results of `lossatlas.spectrum`, or contents of spectrum files.
        labels: A name for each.
        look: "paper", "dark" or "print"; None for "paper".

    Returns:
        The figure.

    Raises:
        BadInput: A file holds no density.
        BadUsage: The look is unknown, something is no spectrum, or the number of labels differs.

    Example:
        >>> from lossatlas.io import read_findings
        >>> one = read_findings("docs/surfaces/spectrum.h5")
        >>> fig = spectra([one, one], ["one", "the same"])
    """
    import matplotlib.pyplot as plt

    if not isinstance(findings, Sequence):
        raise BadUsage(f"spectra() takes a list of spectra, not {type(findings).__name__}")
    contents = [findings_of(each) for each in findings]
    if isinstance(labels, str) or len(labels) != len(contents):
        number = counted(len(contents), "name", "names")
        raise BadUsage(f"{named('labels', labels)}: give a list of {number}, one for each spectrum")
    with users_style(look=checked_look(look)):
        return spectra_plots.spectra_figure(plt, contents, labels)


def findings_of(given: HasFindings | Findings) -> Findings:
    """Return the content of a spectrum file, or of a result of `lossatlas.spectrum`.

    Raises:
        BadUsage: It is something else.
    """
    found = given if isinstance(given, Findings) else getattr(given, "findings", None)
    if not isinstance(found, Findings):
        raise BadUsage(f"{type(given).__name__} is no spectrum: give what lossatlas.spectrum or read_findings returns")
    return found


FUNCTIONS: "dict[Kind, Callable[..., Figure]]" = {
    Kind.CURVE: curve,
    Kind.CONTOUR: contour,
    Kind.FILLED: filled,
    Kind.HEAT: heat,
    Kind.SOLID: solid,
    Kind.SLICES: slices,
}
