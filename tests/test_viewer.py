"""What the page computes, by Node against Python and torch, and what is written into the file."""

import json
import re
import shutil
import subprocess
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from conftest import NODE, ROOT

from lossatlas.commands import view_surface
from lossatlas.errors import BadUsage
from lossatlas.figures.clipped_parts import percent
from lossatlas.io import Projection, read_surface
from lossatlas.io.surface_files import write_surface
from lossatlas.io.trajectory_files import read_projection, write_projection
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.interpolant import Interpolant, cross_validate
from lossatlas.landscape.recorded_options import recorded_option
from lossatlas.viewer import Shown, page_of
from lossatlas.viewer.axis_words import axes_in_words
from lossatlas.viewer.built_in_story import built_in_story
from lossatlas.viewer.content import caption
from lossatlas.viewer.document import ENTRY, static
from lossatlas.viewer.linker import link, modules_of, parse
from lossatlas.viewer.notebook import flatness_in_words
from lossatlas.viewer.page_state import WORDS, is_number_text

needs_node = pytest.mark.skipif(NODE is None, reason="no node: apt-get install nodejs")
PURE = (
    "address.js",
    "cut.js",
    "descent.js",
    "interpolant.js",
    "light.js",
    "model.js",
    "numbers.js",
    "optimizers.js",
    "projection.js",
    "readout.js",
    "scale.js",
    "top_tools.js",
    "webm.js",
)
RNG = np.random.default_rng(0)
X, Y = np.linspace(-1, 1, 13), np.concatenate([np.linspace(-1, 0, 6)[:-1], np.linspace(0, 2, 5)])


def rough(x, y):
    return 2.5 + np.sin(4 * x) * np.cos(3 * y) + x * x + 0.5 * y


def convex(x, y):
    return 1.0 + 3 * x * x + y * y + x * y


def run_js(code, given):
    """Return the value of a function body that uses `given` and the exports of the modules in PURE."""
    words = set(re.findall(r"\w+", code))
    wanted = {name: words.intersection(parse(name, static(name)).exports) for name in PURE}
    imports = "".join(
        f'import {{ {", ".join(sorted(names))} }} from "./{name}";\n' for name, names in wanted.items() if names
    )
    entry = (
        f'{imports}const given = JSON.parse(require("fs").readFileSync(0, "utf8"));'
        "const array = (v) => Float64Array.from(v, (x) => (x === null ? NaN : x));"
        f"process.stdout.write(JSON.stringify((() => {{{code}}})()));"
    )
    program = link("test", lambda name: entry if name == "test" else static(name))
    result = subprocess.run([NODE, "-e", program], input=json.dumps(given), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def given_surface(x, y, values, log, **more):
    plain = [None if not np.isfinite(v) else float(v) for v in np.ravel(values)]
    return {"x": list(x), "y": list(y), "values": plain, "log": log, **more}


MAKE = "const s = makeInterpolant(array(given.x), array(given.y), array(given.values), given.log);"


# The interpolant --------------------------------------------------------------------------------------------------


@needs_node
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("holes", [False, True])
def test_the_page_and_python_have_the_same_interpolant(log, holes):
    values = rough(*np.meshgrid(X, Y))
    if holes:
        values[3, 4], values[0, 0], values[7, 11], values[8, 11] = np.nan, np.inf, np.nan, np.nan
    points = np.stack([RNG.uniform(-1, 1, 500), RNG.uniform(-1, 2, 500)], 1)
    found = run_js(
        f"{MAKE} return given.points.map(([a, b]) => evaluate(s, a, b));",
        given_surface(X, Y, values, log, points=points.tolist()),
    )
    wanted = np.stack(Interpolant.for_drawing(X, Y, values, log=log).at(*points.T), 1)
    found = np.array([[np.nan] * 3 if p is None else [np.nan if v is None else v for v in p] for p in found])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    assert np.isnan(wanted).any() == holes
    known = ~np.isnan(wanted)
    np.testing.assert_allclose(found[known], wanted[known], rtol=1e-12, atol=1e-12)


def corners_around(x, y, values, points):
    """The values of the four cells around each point, (4, n)."""
    i, j = (np.clip(np.searchsorted(nodes, points[:, k]) - 1, 0, len(nodes) - 2) for k, nodes in enumerate((x, y)))
    return np.stack([values[j, i], values[j, i + 1], values[j + 1, i], values[j + 1, i + 1]])


@needs_node
@pytest.mark.parametrize("place", [(6, 7), (1, 2), (0, 0), (3, 12)], ids=str)
@pytest.mark.parametrize(("log", "huge"), [(False, 50.0), (False, -50.0), (True, 50.0), (True, 1e9)])
def test_one_cell_that_differs_invents_no_towers_and_no_pits(log, huge, place):
    values = convex(*np.meshgrid(X, Y)) + 5.0
    smooth = Interpolant.of(X, Y, values, log=log)
    points = np.stack([RNG.uniform(-1, 1, 4000), RNG.uniform(-1, 2, 4000)], 1)
    plain = smooth.at(*points.T)[0]
    whole = Interpolant.for_drawing(X, Y, values, log=log).at(*points.T)[0]
    np.testing.assert_allclose(whole, plain, rtol=1e-12 if not log else 2e-3)  # what is smooth is drawn as it is
    values[place] = huge
    around = corners_around(X, Y, values, points)
    found = Interpolant.for_drawing(X, Y, values, log=log).at(*points.T)
    slack = 0.01 * np.ptp(plain)
    assert (found[0] > around.min(axis=0) - slack).all()
    assert (found[0] < around.max(axis=0) + slack).all()
    calm = (around != huge).all(axis=0)
    assert np.abs(found[0] - plain)[calm].max() < 0.06 * np.ptp(plain)
    given = given_surface(X, Y, values, log, points=points.tolist())
    page = run_js(f"{MAKE} return given.points.map(([a, b]) => evaluate(s, a, b));", given)
    np.testing.assert_allclose(np.transpose(page), found, rtol=1e-11, atol=1e-9)


def test_a_surface_for_drawing_has_no_steps_and_its_slope_is_that_of_its_value():
    values = rough(*np.meshgrid(X, Y))
    values[4, 6] = 1e3
    surface = Interpolant.for_drawing(X, Y, values)
    e = 1e-9
    for x in X[1:-1]:
        b = RNG.uniform(-1, 2, 50)
        for left, right in zip(surface.at(x - e, b), surface.at(x + e, b), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-3)
    a, b, h = RNG.uniform(-0.99, 0.99, 300), RNG.uniform(-0.99, 1.99, 300), 1e-6
    _, dx, dy = surface.at(a, b)
    np.testing.assert_allclose((surface.at(a + h, b)[0] - surface.at(a - h, b)[0]) / (2 * h), dx, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose((surface.at(a, b + h)[0] - surface.at(a, b - h)[0]) / (2 * h), dy, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("log", [False, True])
def test_the_slope_is_that_of_the_value(log):
    surface = Interpolant.of(X, Y, rough(*np.meshgrid(X, Y)), log=log)
    a, b, h = RNG.uniform(-0.99, 0.99, 300), RNG.uniform(-0.99, 1.99, 300), 1e-6
    _, dx, dy = surface.at(a, b)
    np.testing.assert_allclose((surface.at(a + h, b)[0] - surface.at(a - h, b)[0]) / (2 * h), dx, atol=1e-7)
    np.testing.assert_allclose((surface.at(a, b + h)[0] - surface.at(a, b - h)[0]) / (2 * h), dy, atol=1e-7)


def test_value_and_slope_do_not_jump_between_cells():
    surface = Interpolant.of(X, Y, rough(*np.meshgrid(X, Y)))
    e = 1e-9
    for x in X[1:-1]:
        b = RNG.uniform(-1, 2, 50)
        for left, right in zip(surface.at(x - e, b), surface.at(x + e, b), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-6)
    for y in Y[1:-1]:
        a = RNG.uniform(-1, 1, 50)
        for below, above in zip(surface.at(a, y - e), surface.at(a, y + e), strict=True):
            np.testing.assert_allclose(below, above, atol=1e-6)


def test_parabolas_are_met_and_cells_are_kept():
    surface = Interpolant.of(X, Y, convex(*np.meshgrid(X, Y)))
    a, b = RNG.uniform(-1, 1, 200), RNG.uniform(-1, 2, 200)
    np.testing.assert_allclose(surface.at(a, b)[0], convex(a, b), rtol=1e-13)
    np.testing.assert_allclose(surface.at(a, b)[1], 6 * a + b, atol=1e-12)
    values = rough(*np.meshgrid(X, Y))
    np.testing.assert_allclose(Interpolant.of(X, Y, values, log=True).at(*np.meshgrid(X, Y))[0], values, rtol=1e-14)
    assert np.isnan(surface.at([1.01, 0, np.nan], [0, -1.01, 0])[0]).all()


def test_a_network_of_few_points_and_one_with_holes_are_interpolated_as_far_as_it_goes():
    two = Interpolant.of(np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([[0.0, 1.0], [2.0, 3.0]]))
    np.testing.assert_allclose(two.at(0.5, 1.0), (1.5, 1.0, 1.0))
    lonely = np.full((3, 3), np.nan)
    lonely[1, 1] = 1.0
    assert np.isnan(Interpolant.of(np.arange(3.0), np.arange(3.0), lonely).at(1.2, 1.2)[0])


def test_the_logarithm_is_interpolated_where_it_is_better_and_the_error_is_said():
    x = np.linspace(-1, 1, 21)
    grid = np.meshgrid(x, x)
    steep = np.exp(8 * (grid[0] ** 2 + grid[1] ** 2)) * 1e-3
    log, error = cross_validate(x, x, steep)
    assert log
    assert error < 1e-6
    log, error = cross_validate(x, x, convex(*grid) - 2)  # not positive
    assert not log
    assert error < 1e-12
    noise = np.random.default_rng(0).uniform(1, 2, (21, 21))
    assert cross_validate(x, x, noise)[1] > 0.3  # nobody could guess it
    assert np.isnan(cross_validate(x[:3], x[:3], convex(*np.meshgrid(x[:3], x[:3])))[1])


# Optimizers -------------------------------------------------------------------------------------------------------

SETTINGS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9},
    "rmsprop": {"alpha": 0.99, "eps": 1e-8},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adamw": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.01},
    "nadam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.004},
    "sam": {"rho": 0.05},
}


class Sam:
    """Foret et al. (2021), algorithm 1 with p = 2 and plain steps."""

    def __init__(self, point, lr, rho):
        self.point, self.lr, self.rho = point, lr, rho

    def step(self, gradient):
        g = gradient(self.point.detach())
        self.point -= self.lr * gradient(self.point + self.rho * g / g.norm())


def of_torch(name, point, rate, s):
    betas = (s["beta1"], s["beta2"]) if "beta1" in s else None
    torch_ones = {
        "sgd": lambda: torch.optim.SGD([point], lr=rate),
        "momentum": lambda: torch.optim.SGD([point], lr=rate, momentum=s["momentum"]),
        "nesterov": lambda: torch.optim.SGD([point], lr=rate, momentum=s["momentum"], nesterov=True),
        "rmsprop": lambda: torch.optim.RMSprop([point], lr=rate, alpha=s["alpha"], eps=s["eps"]),
        "adam": lambda: torch.optim.Adam([point], lr=rate, betas=betas, eps=s["eps"]),
        "adamw": lambda: torch.optim.AdamW([point], lr=rate, betas=betas, eps=s["eps"], weight_decay=s["decay"]),
        "nadam": lambda: torch.optim.NAdam([point], lr=rate, betas=betas, eps=s["eps"], momentum_decay=s["decay"]),
    }
    return torch_ones[name]()


def step_of(name, optimizer, point, gradient):
    if name == "sam":
        optimizer.step(gradient)
        return
    point.grad = gradient(point.detach())
    optimizer.step()


def gradient_of(surface):
    def gradient(point):
        _, dx, dy = surface.at(*point.detach().numpy())
        return torch.tensor([float(dx), float(dy)], dtype=torch.float64)

    return gradient


def prepared(name, rate, start):
    point = torch.tensor(start, dtype=torch.float64)
    if name == "sam":
        return point, Sam(point, rate, SETTINGS[name]["rho"])
    point.requires_grad_(True)
    optimizer = of_torch(name, point, rate, SETTINGS[name])
    if name == "nadam":  # torch itself begins with a product in float32
        one = torch.ones((), dtype=torch.float64)
        zero = torch.zeros(2, dtype=torch.float64)
        optimizer.state[point] = {"step": 0 * one, "mu_product": one, "exp_avg": zero, "exp_avg_sq": zero.clone()}
    return point, optimizer


FIND = "const o = OPTIMIZERS.find((each) => each.name === given.name);"


# RMSProp and SAM do not come to rest in a minimum, but jump around it, and rounding grows: they are to be on their way.
RATES = {"momentum": 0.003, "nesterov": 0.003, "rmsprop": 5e-4, "sam": 5e-4}


@pytest.mark.few(1)
@needs_node
@pytest.mark.parametrize("name", SETTINGS)
def test_a_thousand_steps_are_those_of_torch(name):
    x = np.linspace(-1, 1, 21)
    values, rate = convex(*np.meshgrid(x, x)), RATES.get(name, 0.01)
    given = given_surface(x, x, values, False, name=name, settings={"rate": rate, **SETTINGS[name]})
    code = f"{MAKE}{FIND} return Array.from(descend(s, o, given.settings, [0.8, 0.7], {{steps: 1000}}).points);"
    found = np.array(run_js(code, given)).reshape(-1, 2)
    surface = Interpolant.of(x, x, values)
    point, optimizer = prepared(name, rate, [0.8, 0.7])
    wanted = [point.detach().numpy().copy()]
    for _ in range(1000):
        step_of(name, optimizer, point, gradient_of(surface))
        wanted.append(point.detach().numpy().copy())
    assert len(found) == 1001
    assert np.abs(found - np.array(wanted)).max() <= 1e-9
    assert convex(*found[-1]) < convex(*found[0])


@needs_node
@pytest.mark.parametrize("name", SETTINGS)
def test_each_step_from_the_same_state_is_that_of_torch(name):
    """On a rough surface, where errors would grow: torch is put into the page's state before each step."""
    values = rough(*np.meshgrid(X, Y))
    given = given_surface(X, Y, values, True, name=name, settings={"rate": 0.004, **SETTINGS[name]})
    code = f"""{MAKE}{FIND}
    const state = o.start(); let p = [0.3, 0.9]; const seen = [];
    const g = (q) => evaluate(s, q[0], q[1]).slice(1);
    for (let k = 0; k < 60; k++) {{
      const before = JSON.parse(JSON.stringify(state)); const from = p;
      p = o.step(state, p, g, given.settings); seen.push([from, before, p]);
    }}
    return seen;"""
    surface = Interpolant.for_drawing(X, Y, values, log=True)
    for k, (start, state, wanted) in enumerate(run_js(code, given)):
        point, optimizer = prepared(name, 0.004, start)
        if k and name not in ("sgd", "sam"):
            torch_state = {
                "momentum_buffer": state.get("buffer"),
                "square_avg": state.get("v"),
                "exp_avg": state.get("m"),
                "exp_avg_sq": state.get("v"),
            }
            own = {n: torch.tensor(v, dtype=torch.float64) for n, v in torch_state.items() if v is not None}
            own["step"] = torch.tensor(float(state.get("t", k)), dtype=torch.float64)
            if name == "nadam":
                own["mu_product"] = torch.tensor(state["product"], dtype=torch.float64)
            optimizer.state[point] = own
        step_of(name, optimizer, point, gradient_of(surface))
        np.testing.assert_allclose(point.detach().numpy(), wanted, rtol=1e-12, atol=1e-14)


@needs_node
def test_the_optimizers_are_tested_all():
    found = run_js("return OPTIMIZERS.map((o) => [o.name, Object.keys(o.settings)]);", {})
    assert dict(found) == {name: list(own) for name, own in SETTINGS.items()}


@needs_node
def test_a_path_ends_where_the_surface_does():
    x = np.linspace(-1, 1, 9)
    slope = np.meshgrid(x, x)[0] + 2
    code = f"""{MAKE}{FIND}
    const p = descend(s, o, given.settings, given.start, given.how);
    return [p.end, p.steps, Array.from(p.points), Array.from(p.losses)];"""
    line = {"name": "sgd", "settings": {"rate": 0.1}, "start": [0.55, 0.0], "how": {"steps": 100}}
    end, steps, points, losses = run_js(code, given_surface(x, x, slope, False, **line))
    assert end == "edge"
    assert steps == 15
    assert len(points) == 2 * 16
    assert points[-2] == pytest.approx(-0.95)
    assert losses == pytest.approx([2.55 - 0.1 * k for k in range(16)])
    slope[:, 2] = np.nan  # x = -0.5
    assert run_js(code, given_surface(x, x, slope, False, **line))[0] == "hole"
    line["start"] = [-0.5, 0.0]
    assert run_js(code, given_surface(x, x, slope, False, **line)) == ["hole", 0, [], []]
    slope[:, 6] = np.nan  # the start is in it
    assert run_js(code, given_surface(x, x, slope, False, **line))[:2] == ["hole", 0]
    far = {**line, "settings": {"rate": 1e300}}
    assert run_js(code, given_surface(x, x, np.meshgrid(x, x)[0] * 1e300, False, **far))[0] in ("edge", "diverged")


@needs_node
def test_noise_is_normal_and_belongs_to_its_seed():
    code = "const r = randomFrom(given.seed); return Array.from({length: 20000}, () => normalPair(r)).flat();"
    first, again, other = (np.array(run_js(code, {"seed": seed})) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.03
    assert abs(first.mean()) < 0.03
    assert abs(first.std() - 1) < 0.02
    assert abs(np.mean(first**4) - 3) < 0.2


@needs_node
def test_descent_on_the_logarithm_follows_its_slope():
    x = np.linspace(-1, 1, 21)
    values = np.exp(convex(*np.meshgrid(x, x)))
    given = given_surface(x, x, values, True, name="sgd", settings={"rate": 0.02})
    how = '{steps: 50, objective: "log"}'
    code = f"{MAKE}{FIND} return Array.from(descend(s, o, given.settings, [0.8, 0.7], {how}).points);"
    found = np.array(run_js(code, given)).reshape(-1, 2)
    point = np.array([0.8, 0.7])
    for k in range(50):
        np.testing.assert_allclose(found[k], point, atol=1e-9)
        point = point - 0.02 * np.array([6 * point[0] + point[1], 2 * point[1] + point[0]])


@needs_node
def test_the_gradients_of_a_step_share_their_noise():
    """As those of one batch: SAM with a radius of nothing is SGD."""
    x = np.linspace(-1, 1, 21)
    code = f"""{MAKE}
    const path = (name, more) => Array.from(descend(s, OPTIMIZERS.find((o) => o.name === name), {{rate: 0.01, ...more}},
      [0.5, 0.5], {{steps: 20, noise: 3, seed: 4}}).points);
    return [path("sgd", {{}}), path("sam", {{rho: 0}})];"""
    sgd, sam = run_js(code, given_surface(x, x, convex(*np.meshgrid(x, x)), False))
    np.testing.assert_allclose(sgd, sam, atol=1e-12)


@needs_node
def test_nothing_has_the_logarithm_of_nothing():
    x = np.linspace(-1, 1, 21)
    path = "const p = descend(s, o, given.settings, [0.5, 0.5], given.how);"
    code = f"{MAKE}{FIND} {path} return [p.end, Array.from(p.losses)];"
    own = {"name": "sgd", "settings": {"rate": 0.02}}
    values = 3 - convex(*np.meshgrid(x, x))
    end, losses = run_js(code, given_surface(x, x, values, False, **own, how={"steps": 50, "objective": "log"}))
    assert end == "zero"
    assert losses[-1] < 0.2


# Camera, scales, state --------------------------------------------------------------------------------------------


@needs_node
def test_a_point_on_the_screen_is_found_again_on_the_surface():
    code = """
    const h = (u, v) => 0.3 + 0.2 * u * v + 0.1 * Math.sin(3 * u);
    const out = [];
    for (const camera of given.cameras) {
      const { matrix, eye } = viewProjection(camera, 1.5);
      for (const [u, v] of given.points) {
        const [x, y, depth] = toScreen(matrix, [u, v, h(u, v)], 600, 400);
        const sight = lineOfSight(matrix, x, y, 600, 400);
        const hit = firstHit(sight, h);
        const d = hit && [0, 1].map((k) => [u, v][k] - hit[k]);
        const far = (p) => Math.hypot(eye[0] - p[0], eye[1] - p[1], eye[2] - h(...p));
        const nearer = hit && far(hit) < far([u, v]) + 1e-6;
        out.push([x, y, depth, d && Math.hypot(...d), nearer]);
      }
    }
    return out;"""
    cameras = [
        {"azimuth": a, "elevation": e, "distance": d, "target": [0.1, -0.2, 0.14]}
        for a in (-60, 10, 150)
        for e in (35, 60, 89)
        for d in (4, 6)
    ]
    points = RNG.uniform(-0.95, 0.95, (20, 2)).tolist()
    found = run_js(code, {"cameras": cameras, "points": points})
    assert len(found) == 360
    for x, y, depth, distance, nearer in found:
        assert -100 < x < 700
        assert -100 < y < 500
        assert -1 < depth < 1
        assert distance < 1e-6 or nearer  # something in front of it


@needs_node
@pytest.mark.parametrize("kind", ["linear", "log", "soft"])
def test_scales_go_there_and_back_and_have_few_round_ticks(kind):
    code = """
    const s = makeScale(given.kind, given.low, given.high);
    const step = 1e-6;
    return [[given.low, given.high].map(s.height), given.values.map((v) => s.value(s.height(v))), ticks(s, 5),
      given.values.map((v) => [slopeOfScale(s, v),
        (s.height(v + step * v) - s.height(v - step * v)) / (2 * step * v)])];"""
    values = [0.002, 0.05, 1.0, 20.0]
    ends, again, marks, slopes = run_js(code, {"kind": kind, "low": 0.001, "high": 30.0, "values": values})
    assert ends == pytest.approx([0, 1], abs=1e-12)
    assert again == pytest.approx(values, rel=1e-9)
    assert 2 <= len(marks) <= 8
    assert all(re.fullmatch(r"[1-9]0*|2\.5|0\.0*[125]|[125]e-\d|25|15|0|7\.5|12\.5", f"{v:g}") for v in marks), marks
    for exact, measured in slopes:
        assert exact == pytest.approx(measured, rel=1e-5)


@needs_node
@pytest.mark.parametrize(
    ("low", "high"), [(10, 10.000000000000002), (1, 1), (2.302585092994045, 2.3025850929940455), (-1e300, 1e300)]
)
def test_ticks_end_on_any_range(low, high):
    found = run_js("return roundSteps(given.low, given.high, 5);", {"low": low, "high": high})
    assert 1 <= len(found) <= 11


@needs_node
def test_numbers_are_written_for_people():
    found = run_js("return given.map((v) => text(v === null ? NaN : v));", [0, 1234567, -0.5, 1e-7, 12.3456, None])
    assert found == ["0", "1.23e6", "−0.5", "1e-7", "12.35", "not a number"]


@needs_node
def test_numbers_of_a_legend_are_short():
    given = [0, 0.000679, 0.00104, -0.0161, 0.123456, 123456, 1.23e-10, -9.96e-12, 1e9, None]
    found = run_js("return given.map((v) => shortText(v === null ? Infinity : v));", given)
    assert found == ["0", "6.8e-4", "1.0e-3", "−0.0161", "0.123", "123000", "1e-10", "−1e-11", "1e9", "∞"]


@needs_node
def test_a_state_survives_the_address_and_a_bad_one_does_no_harm():
    code = "return given.fragments.map((f) => fromFragment(f, given.state)).concat(toFragment(given.state));"
    state = {"x": 0.5, "wire": False, "on": ["sgd", "adam"], "rates": [0.1, 0], "map": "viridis"}
    *found, fragment = run_js(
        code, {"state": state, "fragments": ["x=1e-3&wire=true&on=&map=a%26b", "x=&rates=1~x&wire=1&evil=2"]}
    )
    assert found == [{"x": 1e-3, "wire": True, "on": [], "map": "a&b"}, {}]
    (again,) = run_js("return [fromFragment(given[0], given[1])];", [fragment, state])
    assert again == state


@needs_node
def test_a_cut_has_the_values_and_the_curvature_of_the_surface():
    x = np.linspace(-1, 1, 21)
    raw = {"x": list(x), "y": list(x), "rows": list(range(21)), "columns": list(range(21)), "flat": False}
    given = {**given_surface(x, x, convex(*np.meshgrid(x, x)), False), "raw": raw}
    code = f"""{MAKE} const surface = {{...given.raw, fields: {{f: {{interpolant: s}}}}}};
    return [cutThrough(surface, "f", [0.2, 0.1], 30), bend(surface, "f", [0.2, 0.1], 30)];"""
    cut, bend = run_js(code, given)
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    assert bend == pytest.approx(6 * c * c + 2 * s * s + 2 * c * s, rel=1e-6)
    for point in cut:
        assert point["value"] == pytest.approx(convex(0.2 + point["r"] * c, 0.1 + point["r"] * s), rel=1e-9)
    assert cut[0]["r"] == pytest.approx(-1.2 / c)
    assert cut[-1]["r"] == pytest.approx(0.8 / c)


# What is written --------------------------------------------------------------------------------------------------


def made(gx="-1:1:21", gy="-1:1:21", f=convex, names=("train_loss", "train_acc"), **about):
    grid = Grid.parse(gx, gy)
    x, y = np.meshgrid(grid.x, [0.0] if grid.y is None else grid.y)
    values = f(x, y).ravel()
    rows = np.stack([values] + [100 / (1 + np.abs(values))] * (len(names) - 1), 1)
    return Surface.of_values(grid, names, **about).with_cells(range(grid.size), rows)


def content(text):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found.group(1))


def test_the_page_fetches_nothing_and_holds_one_classic_script():
    text = page_of([Shown(made(), "a")])
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)  # the name of SVG is no address
    assert 'type="module"' not in text
    assert "default-src 'none'" in text


def test_every_module_is_linked_and_every_export_is_used():
    modules = modules_of(ENTRY, static)
    assert sorted(each.name for each in modules) == sorted(
        path.name for path in (ROOT / "lossatlas/viewer/static").glob("*.js")
    )
    imported = {(source, name) for each in modules for source, names in each.imports.items() for name in names}
    exported = {(each.name, name) for each in modules for name in each.exports}
    tested = {("descent.js", "randomFrom"), ("descent.js", "normalPair")}
    assert exported - imported == tested


@needs_node
def test_the_linked_script_is_javascript():
    result = subprocess.run(
        [NODE, "--check", "-"], input=link(ENTRY, static), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a&b\"'", "{{DATA}}", "$\\foo$"]
)
def test_names_do_no_harm(name):
    surface = made(request={"model": name, "dataset": name})
    text = page_of([Shown(surface, name), Shown(surface, "b")], title=name)
    assert text.count("<script") == 2
    assert "<img" not in text
    found = content(text)
    assert found["surfaces"][0]["label"] == name
    assert ["model", name] in found["surfaces"][0]["caption"]


@pytest.mark.parametrize(
    ("directions", "about", "expected"),
    [
        ({}, {"command": "plot_surface.py --xnorm filter --ynorm=layer"}, "x: filter-normalized; y: layer-normalized"),
        (
            {},
            {"command": "plot_surface.py --xnorm filter --ynorm filter --xignore biasbn"},
            "filter-normalized, without biases and BatchNorm",
        ),
        (
            {},
            {"command": "plot_surface.py --config c.yaml", "config": {"xnorm": "unit", "ynorm": "unit"}},
            "of unit length",
        ),
        (
            {"x": "random, norm=layer, ignore=none, seed=1"},
            {"command": "plot_surface.py --xnorm filter"},
            "layer-normalized",
        ),
        (
            {"x": "random, norm=layer, ignore=none", "y": "random, norm=filter, ignore=biasbn"},
            {},
            "x: layer-normalized; y: filter-normalized, without biases and BatchNorm",
        ),
    ],
)
def test_the_normalization_is_that_of_the_directions_and_only_otherwise_that_of_the_command(
    directions, about, expected
):
    """A command with a direction file does not say how the directions in it were made."""
    shown = Shown(made(about=about), "a", directions=directions)
    assert dict(caption(shown))["normalization"] == expected


def test_measures_of_flatness_have_plain_names():
    found = flatness_in_words(made())
    assert next(iter(found)) == "training loss at the centre"
    assert not any("train_loss" in words for words in found)


def test_the_page_of_a_pair_is_small():
    names = ("resnet56_cifar10", "resnet56_noshort_cifar10")
    shown = [Shown(read_surface(ROOT / f"docs/surfaces/{name}.h5"), name) for name in names]
    assert [each.surface.grid.shape for each in shown] == [(51, 51)] * 2
    assert len(page_of(shown)) <= 0.5e6


@pytest.mark.parametrize(("side", "most"), [(51, 1e6), (201, 3e6)])
def test_the_page_is_small(side, most):
    surface = made(f"-1:1:{side}", f"-1:1:{side}", rough)
    assert len(page_of([Shown(surface, "a")])) < most


def test_axes_of_principal_components_are_named():
    x = np.zeros(2)
    axes = ("1st principal component", "2nd principal component")
    for shown, names in (
        (Shown(made(), "a"), ["x", "y"]),
        (Shown(made(), "a", {"x": axes[0], "y": axes[1]}), ["1st principal component", "2nd principal component"]),
        (Shown(made(), "a", {"x": "random", "y": axes[1]}), ["x", "y"]),
        (
            Shown(made(), "a", trajectory=Projection(x, x, axes=axes)),
            ["1st principal component", "2nd principal component"],
        ),
        (
            Shown(made(), "a", trajectory=Projection(x, x, axes=("towards the end", "top eigenvector"))),
            ["towards the end", "top eigenvector"],
        ),
        (Shown(made(), "a", trajectory=Projection(x, x)), ["x", "y"]),
        (
            Shown(made(), "a", trajectory=Projection(x, x, axes=axes, explained=(0.84, 0.1))),
            ["1st principal component (84 % of the variance)", "2nd principal component (10 % of the variance)"],
        ),
    ):
        assert content(page_of([shown]))["surfaces"][0]["axes"] == names


def luminance(colour):
    """Relative luminance of #rrggbb, as WCAG 2 defines it."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [":root", ':root[data-theme="dark"]'], ids=["light", "dark"])
def test_text_and_lines_have_contrast(theme):
    block = static("page.css").split(f"{theme} {{", 1)[1].split("}", 1)[0]
    own = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for ground in (own["ground"], own["panel"]):
        for text in ("text", "strong", "accent"):
            assert contrast(own[text], ground) >= 4.5, (text, ground)
        assert contrast(own["frame"], ground) >= 3
    assert contrast(own["on-accent"], own["accent"]) >= 4.5
    seam = re.search(r"seam: theme\.(\w+)", static("result_tools.js"))[1]  # around the curves of optimizers
    assert contrast(own[seam], own["panel"]) >= 3
    curves = re.search(r"CURVES = \[(.*?)\]", static("colours.js"))[1]
    assert all(contrast(colour, own["ground"]) >= 3 for colour in re.findall(r"#[0-9a-f]{6}", curves))


def test_the_linked_script_has_no_comments_of_whole_lines():
    assert not re.search(r"^\s*(//|/\*\*)", link(ENTRY, static), re.MULTILINE)


def test_two_surfaces_share_range_and_levels():
    low, high = made(), made(f=lambda x, y: 100 * convex(x, y))
    found = content(page_of([Shown(low, "a"), Shown(high, "b")]))
    (field,) = [each for each in found["fields"] if each["name"] == "train_loss"]
    assert field["range"] == pytest.approx([low.fields["train_loss"].min(), high.fields["train_loss"].max()])
    assert field["scale"] == "log"
    levels = {level["level"] for surface in found["surfaces"] for level in surface["fields"]["train_loss"]["contours"]}
    assert levels <= {v for each in field["levels"].values() for v in each}


def one_huge(x, y):
    return np.where((x == x.max()) & (y == y.max()), 1e9, convex(x, y))


def test_the_top_of_the_scale_is_not_that_of_one_huge_cell():
    values = one_huge(*np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21)))
    field = content(page_of([Shown(made(f=one_huge), "a")]))["fields"][0]
    assert field["range"][1] == 1e9
    assert field["top"] == pytest.approx(100 * np.median(values))
    assert (
        sum(level < 6 for level in field["levels"]["linear"]) == 0
    )  # 1 to 6 is a small part of the scale up to the top
    assert sum(level < field["top"] for level in field["levels"]["linear"]) > 5
    for vmax, top in ((5.5, 5.5), (1e12, 1e9)):
        chosen = content(page_of([Shown(made(f=one_huge), "a")], vmax=vmax))["fields"]
        assert chosen[0]["top"] == top
        assert chosen[1]["top"] == chosen[1]["range"][1]
    for wrong in (-3.0, 1.0, np.nan, np.inf):
        with pytest.raises(BadUsage, match="the top has to lie above the lowest value, 1"):
            page_of([Shown(made(f=one_huge), "a")], vmax=wrong)
    plain = content(page_of([Shown(made(), "a")]))["fields"][0]
    assert plain["top"] == plain["range"][1]


def test_the_command_takes_a_top(tmp_path, capsys):
    write_surface(tmp_path / "s.h5", made())
    assert view_surface.main([str(tmp_path / "s.h5"), "--vmax", "3"]) == 0
    assert content((tmp_path / "s.h5.html").read_text())["fields"][0]["top"] == 3
    capsys.readouterr()
    assert view_surface.main([str(tmp_path / "s.h5"), "--vmax", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "vmax" in error
    assert error.count("\n") == 1


@needs_node
def test_light_falls_on_plains_and_less_of_it_into_pits_and_behind_walls():
    def light(z):
        code = "return lightOn([41, 41], [1, 1], array(given.z)).map((each) => Array.from(each));"
        return [np.reshape(each, (41, 41)) for each in run_js(code, {"z": z.ravel().tolist()})]

    u, v = np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41))
    for each in light(np.zeros((41, 41))):
        assert (each == 1).all()
    sky, _ = light(0.85 * (u**2 + v**2) / 2)
    assert sky[20, 20] < sky[20, 8] < sky[20, 0] == pytest.approx(1, abs=0.15)
    _, sun = light(np.where(abs(u) < 0.08, 0.85, 0.0))  # the sun stands at negative x
    assert sun[20, 23] < 0.1
    assert sun[20, 16] == 1


def test_contour_lines_lie_where_the_value_is_the_level():
    import base64

    surface = made(f=rough)
    found = content(page_of([Shown(surface, "a")]))["surfaces"][0]["fields"]["train_loss"]
    own = Interpolant.for_drawing(surface.grid.x, surface.grid.y, surface.fields["train_loss"], log=found["log"])
    assert len(found["contours"]) > 5
    for each in found["contours"]:
        shares = np.frombuffer(base64.b64decode(each["points"]), "<u2").reshape(-1, 2) / 65535
        assert len(shares) == sum(each["runs"])
        np.testing.assert_allclose(own.at(*(2 * shares.T - 1))[0], each["level"], atol=0.01)


def test_what_is_unfinished_or_not_finite_is_told_apart():
    grid = Grid.parse("-1:1:9", "-1:1:9")
    whole = convex(*np.meshgrid(grid.x, grid.y))
    whole[0, 0] = np.inf
    cells = grid.coarse_first()[:40]
    surface = Surface.of_values(grid, ["train_loss"]).with_cells(cells, whole.ravel()[cells][:, None])
    found = content(page_of([Shown(surface, "a")]))["surfaces"][0]
    assert found["cells"] == [40, 81]
    assert found["rows"] == found["columns"] == [0, 2, 4, 6, 8]


def test_contours_of_an_unfinished_part_lie_where_it_does():
    import base64

    grid = Grid.parse("-1:1:6", "-1:1:6")
    cells = [j * 6 + i for j in (0, 2, 4) for i in (0, 2, 4)]
    values = np.meshgrid(grid.x, grid.y)[0]
    surface = Surface.of_values(grid, ["train_loss"]).with_cells(cells, values.ravel()[cells][:, None])
    found = content(page_of([Shown(surface, "a")]))["surfaces"][0]["fields"]["train_loss"]["contours"]
    for each in found:
        shares = np.frombuffer(base64.b64decode(each["points"]), "<u2").reshape(-1, 2) / 65535
        np.testing.assert_allclose(2 * shares[:, 0] - 1, each["level"], atol=1e-4)
        assert shares[:, 1].max() <= 0.8 + 1e-4


@pytest.mark.parametrize("value", [2.302585092994046, 0.0, -3.0])
def test_one_value_everywhere_is_a_surface_too(value):
    for values in (np.full(25, value), np.append(np.full(24, value), np.nextafter(value, 9))):
        grid = Grid.parse("-1:1:5", "-1:1:5")
        surface = Surface.of_values(grid, ["train_loss"]).with_cells(range(25), values[:, None])
        (field,) = content(page_of([Shown(surface, "a")]))["fields"]
        assert field["range"][0] < value < field["range"][1]
        assert field["levels"] == {"linear": []}


def test_odd_contents_of_a_file_do_no_harm():
    surface = made(request={"model": "A" * 3_000_000, "tolerance": "x"}, populations={"train": "many"})
    assert len(page_of([Shown(surface, "x" * 5000)])) < 1e6
    names = ("max_eig", "min_eig", "max_eig_residual", "min_eig_residual", "max_eig_bound", "min_eig_bound")
    page_of([Shown(made(names=names, request={"tolerance": "high"}), "bad\udcff")]).encode(errors="replace")
    with pytest.raises(BadUsage, match="wider than numbers go"):
        page_of([Shown(made(f=lambda x, y: np.where(x > 0, 1e308, -1e308)), "a")])


def test_eigenvalues_have_their_ratio():
    surface = made(names=("max_eig", "min_eig"))
    found = content(page_of([Shown(surface, "a")]))
    assert [each["name"] for each in found["fields"]] == ["max_eig", "min_eig", "eigen_ratio"]


def test_what_cannot_be_shown_is_refused(tmp_path, capsys):
    nothing = Surface.of_values(Grid.parse("-1:1:3", "-1:1:3"), ["train_loss"]).with_cells(
        range(9), np.full((9, 1), np.nan)
    )
    with pytest.raises(BadUsage, match="no cell is finite"):
        page_of([Shown(nothing, "a")])
    with pytest.raises(BadUsage, match="in common"):
        page_of([Shown(made(), "a"), Shown(made(names=("max_eig", "min_eig")), "b")])
    write_surface(tmp_path / "plane.h5", made())
    write_surface(tmp_path / "curve.h5", made(gy=None))
    write_surface(tmp_path / "row.h5", made(gy="0:0:1"))
    for argv, words in (
        ([], "name a surface file"),
        (["plane.h5", "curve.h5"], "cannot be shown on one page"),
        (["plane.h5", "--labels", "a", "b"], "2 names for 1 file"),
        (["curve.h5", "--proj_file", "x.h5"], "needs a plane"),
        (["row.h5"], "at least 2 points"),
        (["plane.h5", "-o", "plane.h5"], "is one of the files that are read"),
        (["absent.h5"], "absent.h5"),
    ):
        argv = [str(tmp_path / word) if word.endswith(".h5") else word for word in argv]
        assert view_surface.main(argv) in (2, 3)
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == []


def test_the_command_writes_a_page_with_the_path_of_a_training(tmp_path, capsys):
    write_surface(tmp_path / "s.h5", made())
    path = np.array([[0.9, 0.8], [0.3, 0.2], [0.0, 0.0]])
    more = {
        "epochs": np.array([0.0, 10, 20]),
        "loss": np.array([3.0, np.inf, np.nan]),
        "distance": np.array([4.0, 1.0, 0.0]),
    }
    write_projection(tmp_path / "p.h5", Projection(path[:, 0], path[:, 1], **more), "", "")
    argv = [str(tmp_path / "s.h5"), "--proj_file", str(tmp_path / "p.h5"), "-o", str(tmp_path / "out.html")]
    assert view_surface.main(argv) == 0
    assert "out.html" in capsys.readouterr().out
    found = content((tmp_path / "out.html").read_text())["surfaces"][0]["trajectory"]
    assert found == {
        "x": [0.9, 0.3, 0.0],
        "y": [0.8, 0.2, 0.0],
        "epochs": [0.0, 10.0, 20.0],
        "loss": [3.0, "Infinity", None],
        "distance": [4.0, 1.0, 0.0],
        "field": "train_loss",
        "counted": "epoch",
    }
    assert view_surface.main([str(tmp_path / "s.h5")]) == 0
    assert content((tmp_path / "s.h5.html").read_text())["surfaces"][0]["label"] == "s"
    shown = Shown(made(), "a", trajectory=Projection(path[:, 0], path[:, 1]))
    assert content(page_of([shown]))["surfaces"][0]["trajectory"]["loss"] is None


# Notes of the page ------------------------------------------------------------------------------------------------

NOTE = (
    "const values = array(given.values).map((v, k) => given.infinite.includes(k) ? Infinity : v);"
    "const surface = { fields: { f: { values } }, done: values.map((v, k) => given.missing.includes(k) ? 0 : 1) };"
    'return clippedNote(surface, { clipped: true, scale: () => ({ high: 5 }), state: { height: "f" } });'
)


def note(values, infinite=(), missing=()):
    return run_js(NOTE, {"values": values, "infinite": list(infinite), "missing": list(missing)})


@needs_node
def test_a_large_plane_states_what_lies_above_its_scale():
    values = [1.0] * (401 * 401)
    values[12_345], values[77] = 9e4, 6.0
    assert note(values).startswith("<0.01 % of the cells lie above 5")
    assert re.search(r"\b90000\b", note(values))


@needs_node
def test_the_share_is_that_of_the_cells_that_it_names():
    assert note([1.0] + [9.0] * 440).startswith(">99 % of the cells lie above")
    assert note([9.0] * 3).startswith("100 % of the cells")
    assert note([None] * 50 + [9.0] * 25 + [1.0] * 25).startswith("50 % of the finite cells lie above")
    infinite = note([1.0, 1.0, 6.0, 7.0, 1.0], infinite=[1])
    assert infinite.startswith("50 % of the finite cells")
    assert re.search(r"\b7\b", infinite)
    assert note([9.0, 9.0, 1.0, 1.0], missing=[0]).startswith("33 % of the cells lie above")
    assert note([1.0, 2.0], infinite=[1]) == ""


@needs_node
def test_shares_have_the_same_words_in_pages_and_figures():
    shares = [1 / 300_000, 9.9e-5, 1e-4, 0.00123, 0.0099, 0.0994, 0.0996, 0.5, 0.9949, 0.9951, 440 / 441, 1]
    assert run_js("return given.map(percent);", shares) == [percent(share) for share in shares]


# Lines of checkpoints, and values of the state --------------------------------------------------------------------


def path_page(*more):
    surface = Surface.of_values(Grid(np.arange(4.0)), ["train_loss"], request={"path": ["a", "b", "c", "d"]})
    surface = surface.with_cells(range(4), np.array([[3.0], [2.0], [1.5], [1.25]]))
    return content(page_of([Shown(surface, "run"), *more]))


@needs_node
def test_no_optimizers_race_along_numbers_of_checkpoints():
    code = 'const m = new Model(given, ""); return [m.noRace, m.along, sentenceOn(m), remarksOn(m)];'
    reason = "No race here: x counts checkpoints, and no optimizer moves along their numbers."
    own = path_page()
    assert own["surfaces"][0]["checkpoints"] is True
    assert run_js(code, own) == [reason, "number of the checkpoint", "The curves are the training loss.", [reason]]
    mixed = run_js(code, path_page(Shown(made(gy=None), "line")))
    assert mixed[:2] == [reason, "coordinate, or number of the checkpoint"]
    line = run_js(code, content(page_of([Shown(made(gy=None), "line")])))
    assert line[:2] == ["", "coordinate along the direction"]


@needs_node
def test_no_optimizers_race_on_a_chart_along_a_training():
    folder = ROOT / "docs" / "surfaces"
    chart = Shown(read_surface(folder / "chart.h5"), "chart", trajectory=read_projection(folder / "chart_path.h5"))
    code = 'const m = new Model(given, ""); return [m.noRace, sentenceOn(m), coordinatesOn(m)];'
    reason, sentence, axes = run_js(code, content(page_of([chart])))
    assert reason.startswith("No race here: this map bends along a training")
    assert sentence == "Height is the training loss along the path of a training, and beside it."
    assert axes.startswith("x: distance along the path of a training")
    titles = [step.title for step in built_in_story([chart], "train_loss", "soft").steps]
    assert titles == ["What is this sheet?", "Along a training, and beside it", "What it does not show"]
    assert "Roll a ball" in [step.title for step in built_in_story([Shown(made(), "a")], "train_loss", "soft").steps]


@needs_node
def test_the_page_keeps_each_word_that_a_story_may_have():
    given = content(page_of([Shown(made(), "a")]))
    assert set(WORDS["map"]) == set(given["maps"])
    for name, words in WORDS.items():
        code = f"return given.words.map((w) => new Model(given.content, `{name}=${{w}}`).state.{name});"
        assert run_js(code, {"content": given, "words": words}) == list(words)
        other = run_js(code, {"content": given, "words": ["zzz"]})
        assert other != ["zzz"]


@needs_node
@pytest.mark.parametrize("number", ["5", "+5", "-.5", "5.", "1e-3", " 5 ", "1_000", "\u0663", "1e999", "nan", "", " "])
def test_python_accepts_the_numbers_that_the_page_reads(number):
    found = run_js("return Object.keys(fromFragment(given, { x: 0 }));", urlencode({"x": number}))
    assert (found == ["x"]) == is_number_text(number)


# What x and y are -------------------------------------------------------------------------------------------------

RANDOM = "random, norm=filter, ignore=biasbn, seed=123, idx=0"
AROUND = "(0, 0) is the network itself."
RECORDED = {"request": {"directions": "of a file"}}
TWO = [["first", 0.0, 0.0], ["second", 1.0, 0.0]]
WORDS_OF_AXES = [  # command and more of the provenance, directions, whether it is a plane, and the sentence
    (
        {"command": "--xnorm filter --ynorm filter"},
        {},
        True,
        f"x, y: distance along two random directions (filter-normalized); {AROUND}",
    ),
    ({"command": "--x=-1:1:5 --y=-1:1:5"}, {}, True, f"x, y: distance along two random directions; {AROUND}"),
    ({"command": "--dir_file mine.h5"}, {}, True, f"x, y: distance along two directions; {AROUND}"),
    (
        {"command": "--xnorm filter --ynorm layer"},
        {},
        True,
        "x: distance along a random direction (filter-normalized); y: along a random direction (layer-normalized); "
        f"{AROUND}",
    ),
    (
        {"command": "a", "config": {"xnorm": "unit", "xdirection": "gradient"}},
        {},
        False,
        "x: distance along the gradient (of unit length); 0 is the network itself.",
    ),
    (
        {"command": "--xdirection eigenvector:2 --ydirection random"},
        {},
        True,
        f"x: distance along eigenvector 2 of the Hessian; y: along a random direction; {AROUND}",
    ),
    (
        {"command": "--model_file a.pt --model_file2 b.pt --ynorm filter"},
        {},
        True,
        "x: distance along the direction to another network; y: along a random direction (filter-normalized); "
        f"{AROUND}",
    ),
    (
        {"command": "--same_dir --xnorm filter"},
        {},
        True,
        f"x: distance along a random direction (filter-normalized); y: along the direction of x; {AROUND}",
    ),
    ({}, {"x": RANDOM, "y": RANDOM}, True, f"x, y: distance along two random directions (filter-normalized); {AROUND}"),
    (
        {},
        {"x": "eigenvector 1 of the mean loss, norm=none, ignore=none", "y": "a vector with the sha256 0"},
        True,
        f"x: distance along eigenvector 1 of the Hessian; y: along a given direction; {AROUND}",
    ),
    (
        {},
        {"x": "towards 00ff", "y": "the x direction"},
        True,
        f"x: distance along the direction to another network; y: along the direction of x; {AROUND}",
    ),
    (
        {},
        {"x": "1st principal component", "y": "2nd principal component"},
        True,
        "x, y: distance along the first two principal components of the checkpoints of a training; (0, 0) is the last "
        "checkpoint.",
    ),
    (
        {"command": "plot_trajectory.py --surface 25"},
        {},
        True,
        "x, y: distance along two directions in the plane of a training; (0, 0) is the last checkpoint.",
    ),
    ({"networks": TWO}, {}, False, "x: position on the straight line from first (0) to second (1)."),
    (
        {"networks": TWO, "command": "--align"},
        {},
        False,
        "x: position on the straight line from first (0) to second (1), whose units are permuted.",
    ),
    (
        {"networks": [["0f" * 32, 0.0, 0.0], ["second", 1.0, 0.0]]},
        {},
        False,
        "x: position on the straight line from one network (0) to second (1).",
    ),
    (
        {"command": "--model_file a/b.pt --model_file2 c.pt"},
        {},
        False,
        "x: position on the straight line from b (0) to c (1).",
    ),
    (
        {"networks": [*TWO, ["third", 1e-17, 1.0]]},
        {},
        True,
        "x, y: distance along two directions between networks: first at (0, 0), second at (1, 0) and third at (0, 1).",
    ),
    (
        {"networks": [*TWO, ["third", 0.5, 0.2]], "curve": "bezier"},
        {},
        True,
        "x, y: distance along two directions in the plane of a Bézier curve from first at (0, 0) to second at (1, 0).",
    ),
]


@pytest.mark.parametrize(
    ("about", "directions", "is_plane", "sentence"), WORDS_OF_AXES, ids=[each[3][:40] for each in WORDS_OF_AXES]
)
def test_the_coordinates_are_said_as_the_file_records_them(about, directions, is_plane, sentence):
    surface = made(gy="-1:1:21" if is_plane else None, about=about, **RECORDED)
    assert axes_in_words(surface, directions) == sentence


def test_a_normalization_that_is_not_known_is_not_said():
    for norm, words in (("filter", " (filter-normalized)"), ("unit", " (of unit length)"), ("none", ""), ("cubic", "")):
        record = {"x": f"random, norm={norm}, ignore=none, seed=1, idx=0"}
        sentence = f"x: distance along a random direction{words}; 0 is the network itself."
        assert axes_in_words(made(gy=None), record) == sentence


def test_coordinates_that_are_no_directions_are_said_too():
    for request, words in (
        ({"path": ["a", "b"]}, "x: the number of a checkpoint, from 0 on."),
        (
            {"directions": "a bezier curve towards 0f by 1e"},
            "x: position on a Bézier curve from one network (0) to another one (1).",
        ),
        (
            {"scheme": "barycentric"},
            "x, y: how three networks are mixed (scheme 'barycentric'); (0, 0) is the first of them alone.",
        ),
        ({}, "x, y: distance along two directions."),  # nothing is recorded, nothing is claimed
    ):
        is_line = "path" in request or "directions" in request
        assert axes_in_words(made(gy=None if is_line else "-1:1:21", request=request)) == words


def test_the_path_of_a_training_says_what_its_axes_are():
    principal, river = (
        ("1st principal component", "2nd principal component"),
        ("drift from a to b", "top eigenvector, at a right angle"),
    )
    far, home = np.array([0.9, 0.3]), np.array([0.9, 0.0])
    for path, words in (
        (
            Projection(home, home, axes=principal, explained=(0.84, 0.1)),
            "x, y: distance along the first two principal components of the checkpoints of a training "
            "(84 % and 10 % of the variance); (0, 0) is the last checkpoint.",
        ),
        (
            Projection(home, home, axes=river),
            "x: drift from a to b; y: top eigenvector, at a right angle; (0, 0) is the last checkpoint.",
        ),
        (Projection(far, far, axes=river), "x: drift from a to b; y: top eigenvector, at a right angle."),
        (Projection(far, far), "x, y: distance along two directions in the plane of a training."),
    ):
        assert axes_in_words(made(), None, path) == words


def test_options_are_read_from_the_configuration_or_else_from_the_command():
    command = {"command": "plot_surface.py --xnorm=filter --align --dir_file d.h5 --same_dir"}
    assert [recorded_option(command, name) for name in ("xnorm", "align", "dir_file", "same_dir", "x", "dir")] == [
        "filter", "True", "d.h5", "True", "", "",
    ]  # fmt: skip
    assert recorded_option({**command, "config": {"xnorm": ""}}, "xnorm") == ""


@needs_node
def test_surfaces_that_differ_in_their_coordinates_are_named():
    code = 'return coordinatesOn(new Model(given, ""));'
    line, other = made(gy=None, about={"networks": TWO}), made(gy=None)
    assert (
        run_js(code, content(page_of([Shown(line, "a"), Shown(line, "b")])))
        == "x: position on the straight line from first (0) to second (1)."
    )
    found = run_js(code, content(page_of([Shown(line, "a"), Shown(other, "b"), Shown(line, "c")])))
    assert (
        found
        == "x (a, c): position on the straight line from first (0) to second (1). x (b): distance along a direction."
    )


# What an address asks for -----------------------------------------------------------------------------------------

MISREAD = "The address asks for what this page cannot show: "


@needs_node
@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ("", ""),
        ("map=magma&on=sgd~adam&elevation=20&x=0.1&rates=0.1~0.1~0.1~0.1~0.1~0.1~0.1~0.1", ""),
        ("x=0.9999999999&on=&theme=dark&vmax=3", ""),
        ("elevation=200", MISREAD + "elevation=200 (shown: 89)."),
        ("map=none&vmax=-4", MISREAD + "map=none (shown: viridis), vmax=-4 (shown: the usual one)."),
        ("steep=3", MISREAD + "steep (unknown)."),
        ("steps=many", MISREAD + "steps=many (shown: 300)."),
        ("on=sgd~what", MISREAD + "on=sgd~what (shown: sgd)."),
        ("x=7&y=-7&noise=a&seed=b&at=-1", MISREAD + "x=7 (shown: 1), y=-7 (shown: -1), noise=a (shown: 0) and 2 more."),
        (f"height={'h' * 99}", MISREAD + f"height={'h' * 23}… (shown: train_loss)."),
    ],
)
def test_what_an_address_asks_for_in_vain_is_said_in_one_line(fragment, said):
    own = content(page_of([Shown(made(), "a"), Shown(made(), "b")]))
    assert run_js("return new Model(given.own, given.fragment).misread;", {"own": own, "fragment": fragment}) == said


# The duration of a film -------------------------------------------------------------------------------------------


def ebml(number, payload, size=None):
    """An element with a size of eight bytes; size: bytes in its place."""
    return bytes.fromhex(number) + (b"\x01" + len(payload).to_bytes(7, "big") if size is None else size) + payload


UNKNOWN = b"\x01" + 7 * b"\xff"


def film(info=b"", seek=b"", segment=UNKNOWN, times=((0, (0, 40, 80)), (1000, (0, 40)))):
    """A film without pictures: clusters with their times and those of their blocks, in milliseconds."""
    clusters = b"".join(
        ebml(
            "1f43b675",
            ebml("e7", start.to_bytes(2, "big"))
            + b"".join(
                ebml("a3", b"\x81" + at.to_bytes(2, "big") + b"\x00picture")
                if at != 40
                else ebml("a0", ebml("a1", b"\x81" + at.to_bytes(2, "big") + b"\x00picture"))
                for at in blocks
            ),
            UNKNOWN,
        )
        for start, blocks in times
    )
    head = ebml("1549a966", ebml("2ad7b1", b"\x0f\x42\x40") + info)
    return ebml("1a45dfa3", b"webm") + bytes.fromhex("18538067") + segment + seek + head + clusters


def with_duration(before):
    return bytes(run_js("return Array.from(withDuration(Uint8Array.from(given)));", list(before)))


@needs_node
def test_a_film_gets_its_duration():
    duration = 1040 + 1040 / 4  # the last of five pictures is shown as long as the others
    element = ebml("4489", np.array(duration, ">f8").tobytes(), b"\x88")
    assert with_duration(film()) == film(info=element)
    alone = ebml("4489", np.array(540.0, ">f8").tobytes(), b"\x88")
    assert with_duration(film(times=((500, (0,)),))) == film(info=alone, times=((500, (0,)),))
    empty = ebml("4489", bytes(8), b"\x88")  # as some browsers write it
    assert with_duration(film(info=empty)) == film(info=element)
    short = ebml("4489", bytes(4), b"\x84")
    assert with_duration(film(info=short)) == film(info=ebml("4489", np.array(duration, ">f4").tobytes(), b"\x84"))


@needs_node
def test_a_film_that_has_a_duration_or_cannot_be_read_stays_as_it_is():
    known = ebml("4489", np.array(77.0, ">f8").tobytes(), b"\x88")
    places = ebml("114d9b74", b"places of elements")
    whole = film()
    for before in (
        film(info=known),
        film(seek=places),
        film(segment=b"\x01" + (10**4).to_bytes(7, "big")),
        film(times=((0, ()),)),
        whole[:40],
        b"",
        b"\x00" * 50,
    ):
        assert with_duration(before) == before
    cut = whole[:-5]  # within the last block, which is left out
    assert len(with_duration(cut)) > len(cut)


@needs_node
@pytest.mark.commands
@pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="no ffprobe: apt-get install ffmpeg"
)
def test_ffprobe_reads_the_duration(tmp_path):
    source = ["-f", "lavfi", "-i", "testsrc=duration=2:size=64x64:rate=10", "-c:v", "libvpx"]
    command = [
        "ffmpeg",
        "-v",
        "error",
        *source,
        "-f",
        "webm",
        "-cluster_time_limit",
        "500",
        str(tmp_path / "whole.webm"),
    ]
    subprocess.run(command, check=True)
    whole = (tmp_path / "whole.webm").read_bytes()
    (tmp_path / "film.webm").write_bytes(with_duration(as_recorded(whole)))
    assert probed(tmp_path / "film.webm") == pytest.approx(2.0, abs=0.01)
    (tmp_path / "film.webm").write_bytes(as_recorded(whole))
    assert probed(tmp_path / "film.webm") is None


def as_recorded(whole):
    """A film as a browser records it: without duration, places of elements, and the size of the segment."""
    blank = whole.replace(whole[whole.index(b"\x44\x89\x88") :][:11], b"\xec\x89" + bytes(9))
    at = blank.index(bytes.fromhex("18538067"))
    info = blank.rindex(bytes.fromhex("1549a966"))
    cues = blank.rindex(bytes.fromhex("1c53bb6b"))
    return blank[: at + 4] + UNKNOWN + blank[info:cues]


def probed(file):
    """The duration in seconds; None where ffprobe finds none."""
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None if said == "N/A" else float(said)
