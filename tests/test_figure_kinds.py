"""Kinds of figures: one word each, the function and the options of that word, and names of files that never change."""

from typing import get_args

import pytest

from lossatlas import figures
from lossatlas.choices import FilmKind, PlotKind
from lossatlas.figures.contour_plots import DRAW_FLAT
from lossatlas.figures.figure_files import animation_name, figure_name
from lossatlas.figures.kinds import FLAT, OF_SURFACE, Film, Kind, words_of
from lossatlas.figures.plot_functions import FUNCTIONS
from lossatlas.figures.plot_options import KIND_KEYWORDS
from lossatlas.figures.spectrum_plots import DRAW_SPECTRUM

NAMES = {  # of files, as users and the gallery know them
    Kind.CURVES: "s.h5_1d_compare",
    Kind.CURVE: "s.h5_1d_loss_acc",
    Kind.CURVE_LOSS: "s.h5_1d_train_loss",
    Kind.CURVE_ERROR: "s.h5_1d_train_err",
    Kind.CURVE_FIELD: "s.h5_1d_field_train_loss",
    Kind.CURVE_EIGENVALUES: "s.h5_1d_eig",
    Kind.CURVE_RATIO: "s.h5_1d_eig_ratio",
    Kind.REPEATS: "s.h5_1d_loss_err_repeat",
    Kind.CONTOUR: "s.h5_train_loss_2dcontour",
    Kind.FILLED: "s.h5_train_loss_2dcontourf",
    Kind.HEAT: "s.h5_train_loss_2dheat",
    Kind.SOLID: "s.h5_train_loss_3dsurface",
    Kind.SLICES: "s.h5_train_loss_slices",
    Kind.CUTAWAY: "s.h5_train_loss_cutaway",
    Kind.RENDERED: "s.h5_train_loss_3drender",
    Kind.PATH_LOSSES: "s.h5_train_loss_along_path",
    Kind.RATIO: "s.h5_min_eig_max_eig_abs_ratio_heat_sns",
    Kind.PATH: "s.h5",
    Kind.LAYER_MAP: "s.h5_train_loss_layers",
    Kind.MINIMA: "s.h5_train_loss_minima",
    Kind.MERGE_TREE: "s.h5_train_loss_merge_tree",
    Kind.SPECTRA: "s.h5_spectra",
    Kind.CHAINS: "s.h5_chains",
    Kind.COEFFICIENTS: "s.h5_coefficients",
    Kind.RISES: "s.h5_rises",
    Kind.DENSITY: "s.h5_density",
    Kind.LAYERS: "s.h5_layers",
    Kind.ACTIVATIONS: "s.h5_activations",
}


def test_names_of_files_stay():
    assert {kind: figure_name(kind, ["s.h5"], field="train_loss") for kind in Kind} == NAMES
    logarithmic = {kind for kind in Kind if figure_name(kind, ["s.h5"], log=True).endswith("_log")}
    assert {kind.ending for kind in logarithmic} == {
        *("_1d_compare", "_1d_loss_acc", "_1d_train_loss", "_1d_train_err", "_1d_loss_err_repeat")
    }
    assert figure_name(Kind.SOLID, ["s.h5", "t.h5"], field="a") == "s.h5_compare_a_3dsurface"
    assert figure_name(Kind.MINIMA, ["s.h5", "t.h5"], field="a") == "s.h5_a_minima"
    assert figure_name(Kind.SOLID, ["s.h5:z=0.5"], field="a") == "s.h5_z=0.5_a_3dsurface"
    assert [str(animation_name("s.h5", "train_loss", kind)) for kind in Film] == [
        *("s.h5_train_loss_turn.gif", "s.h5_train_loss_path.gif", "s.h5_train_loss_refine.gif")
    ]


def test_a_kind_is_its_word_its_function_and_its_options():
    assert len({kind.word for kind in Kind}) == len({kind.ending for kind in Kind}) == len(Kind)
    assert set(OF_SURFACE) == set(FUNCTIONS) == set(KIND_KEYWORDS)
    assert set(FLAT) == set(DRAW_FLAT)
    for kind, function in FUNCTIONS.items():
        assert function is getattr(figures, kind.word)
        assert function.__name__ == kind.word
    assert [kind.word for kind in DRAW_SPECTRUM] == ["density", "layers", "activations"]
    assert words_of(Film) == get_args(FilmKind)
    assert words_of(OF_SURFACE) == get_args(PlotKind)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("contourf", "filled"),
        ("3d", "solid"),
        ("Surface", "solid"),
        ("heatmap", "heat"),
        ("line", "curve"),
        ("curv", "curve"),
    ],
)
def test_another_name_of_a_kind_is_answered_with_its_word(word, kind):
    assert Kind.meant_by(word, OF_SURFACE) == f" (did you mean {kind}?)"
    assert Kind.meant_by("pie", OF_SURFACE) == ""
