"""Lanczos, traces, density and effective dimension against explicit matrices, numpy and scipy."""

import numpy as np
import pytest
import torch
from binomial import counts, least_hits
from oracles import explicit_hessian, mean_cross_entropy
from scipy.sparse.linalg import eigsh

from lossatlas.hessian import density, diagonal, effective_dimension, hutch_plus_plus, hutchinson, lanczos, of_matrix


def matrix(values, seed=0):
    """A symmetric matrix with these eigenvalues."""
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    return (q * np.asarray(values)) @ q.T


def hessian_like(n=200):
    """A few outliers, a bulk at zero, a small negative tail."""
    rng = np.random.default_rng(1)
    return np.concatenate([[30.0, 18.0, 7.0], rng.gamma(0.5, 0.2, n - 33), -rng.gamma(1.0, 0.3, 30)])


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-8), (np.float32, 1e-4)])
def test_both_ends_in_one_run(dtype, error):
    a = matrix(hessian_like())
    exact, vectors = np.linalg.eigh(a)
    found = lanczos(of_matrix(a.astype(dtype)), top=3, bottom=2, tolerance=error)
    np.testing.assert_allclose(found.values, exact[[-1, -2, -3, 1, 0]], rtol=10 * error)
    assert found.converged.all()
    for value, vector, residual, k in zip(
        found.values, found.vectors, found.residuals, (-1, -2, -3, 1, 0), strict=True
    ):
        v = vector.double().numpy()
        assert np.linalg.norm(v) == pytest.approx(1, abs=1e-5)
        assert abs(v @ vectors[:, k]) == pytest.approx(1, abs=1e-3)
        assert np.linalg.norm(a @ v - value * v) <= residual + 100 * error


def test_the_stated_residual_is_the_true_one_before_convergence():
    a = matrix(hessian_like())
    found = lanczos(of_matrix(a), top=2, bottom=1, tolerance=1e-12, max_products=12)
    assert found.products == 12
    assert not found.converged.all()
    for value, vector, residual in zip(found.values, found.vectors.numpy(), found.residuals, strict=True):
        assert np.linalg.norm(a @ vector - value * vector) == pytest.approx(residual, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "top"),
    [
        ([2.0] * 20, 2),
        ([0.0] * 20, 1),
        ([5.0] * 3 + [1.0] * 17, 3),
        ([3.0, 2.0, 1.0], 3),
        ([4.0], 1),
        ([1e-8, 2e-8, -1e-8], 2),
    ],
)
def test_invariant_subspaces_and_repeated_values(values, top):
    found = lanczos(of_matrix(matrix(values)), top=top, bottom=0, tolerance=1e-8)
    np.testing.assert_allclose(found.values, sorted(values)[::-1][:top], rtol=1e-6, atol=1e-14)
    assert found.products <= len(values)
    assert np.isfinite(found.vectors.numpy()).all()


def neighbours(rng, size=150):
    """Two operators with the same eigenvectors, at whose ends other eigenvalues have overtaken in the second."""
    vectors = np.linalg.qr(rng.normal(size=(size, size)))[0]
    bulk = rng.uniform(-1, 1, size) * rng.uniform(0, 1, size) ** 2
    before = np.concatenate([[10.0, 9.5, -2.0, -1.9], bulk[4:]])
    after = np.concatenate([[9.8, 9.8 + rng.uniform(0.2, 3), -1.9, -1.9 - rng.uniform(0.1, 1)], bulk[4:]])
    return (vectors * before) @ vectors.T, (vectors * after) @ vectors.T, after


@pytest.mark.slow
def test_a_start_never_hides_an_eigenvalue_that_has_overtaken():
    """The neighbour's end vectors alone missed all 200: a residual says that an eigenvalue is near, not which one."""
    rng = np.random.default_rng(0)
    for seed in range(200):
        before, after, exact = neighbours(rng)
        start = lanczos(of_matrix(before), top=1, bottom=1, tolerance=1e-2, seed=seed).vectors.sum(0)
        for found in (
            lanczos(of_matrix(after), top=1, bottom=1, tolerance=1e-2, seed=seed, start=s) for s in (start, None)
        ):
            np.testing.assert_allclose(found.values, [exact.max(), exact.min()], rtol=1e-2)
            assert found.converged.all()
            assert found.bounds[0] <= exact.min() + 1e-9
            assert found.bounds[1] >= exact.max() - 1e-9
            assert found.bounds[1] <= 1.01 * exact.max() + 1e-9


@pytest.mark.parametrize("seeds", counts(50, 200))
def test_the_bounds_hold_before_convergence_and_nothing_left_out_is_called_resolved(seeds):
    """Also where the largest eigenvalue has next to nothing of the start: then its pair must wait."""
    rng = np.random.default_rng(1)
    for seed in range(seeds):
        values = np.concatenate([[1.0 + rng.uniform(0, 0.05), 1.0], rng.uniform(-0.5, 0.9, 198)])
        found = lanczos(
            of_matrix(matrix(values, seed)),
            top=2,
            bottom=1,
            tolerance=1e-3,
            max_products=int(rng.integers(3, 60)),
            seed=seed,
        )
        assert found.bounds[0] <= values.min()
        assert found.bounds[1] >= values.max() - 1e-12
        exact = np.array([*np.sort(values)[:-3:-1], values.min()])
        for value, true, good in zip(found.values, exact, found.converged, strict=True):
            assert not good or abs(value - true) <= 1.01e-3 * abs(true)


def test_the_zero_operator_is_resolved_at_once():
    for dtype in (np.float32, np.float64):
        found = lanczos(of_matrix(np.zeros((500, 500), dtype)), top=1, bottom=1)
        assert found.converged.all()
        assert found.products <= 8
        np.testing.assert_array_equal(found.values, 0)


def test_an_operator_that_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="not finite at product 1"):
        lanczos(of_matrix(np.full((5, 5), np.nan)))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", counts(40, 150))
def test_a_single_eigenvalue_that_carries_the_trace(seeds):
    """The hardest case: probes that are nearly orthogonal to its vector agree with each other."""
    a = matrix(np.array([-5.0, *[0.2] * 59]))
    for tolerance in (0.2, 0.1):
        found = [hutchinson(of_matrix(a), tolerance=tolerance, seed=seed) for seed in range(seeds)]
        within = sum(abs(f.value - np.trace(a)) <= 2 * f.error for f in found)
        assert within >= (0.88 * seeds if seeds == 150 else least_hits(seeds, 0.9))


FULL_COUNTS = [pytest.param(tolerance, 200, marks=pytest.mark.full) for tolerance in (0.5, 0.2, 0.05)]


@pytest.mark.parametrize("estimator", [hutchinson, hutch_plus_plus])
@pytest.mark.parametrize(("tolerance", "seeds"), [(0.5, 40), (0.2, 40), (0.05, 15), *FULL_COUNTS])
def test_traces_lie_within_their_errors_as_often_as_stated(estimator, tolerance, seeds):
    """Also at loose tolerances, where five probes used to be enough and 81 % were covered."""
    a = matrix(hessian_like(60))
    within = []
    for seed in range(seeds):
        found = estimator(of_matrix(a), tolerance=tolerance, seed=seed)
        assert found.error <= tolerance * abs(found.value) or found.products == 1000
        within.append(abs(found.value - np.trace(a)) <= 2 * found.error)
    assert sum(within) >= (0.92 * seeds if seeds == 200 else least_hits(seeds, 0.95))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", counts(40, 200))
def test_after_a_lanczos_run_the_trace_takes_fewer_products_and_its_errors_hold(seeds):
    a = matrix([100.0, 60.0, 30.0, 10.0, *np.linspace(-0.5, 2, 116)])
    pairs = lanczos(of_matrix(a), top=4, tolerance=1e-3)
    assert float(pairs.captured.sum()) == pytest.approx(pairs.alphas.sum())
    blocks, within = [50, 30, 40], []
    exact = np.array([np.trace(a), *(np.trace(a[i:j, i:j]) for i, j in ((0, 50), (50, 80), (80, 120)))])
    for seed in range(seeds):
        found = hutchinson(of_matrix(a), tolerance=1e-9, max_products=20, known=pairs, blocks=blocks, seed=seed)
        values, errors = np.array([found.value, *found.blocks]), np.array([found.error, *found.block_errors])
        assert found.blocks.sum() == pytest.approx(found.value)
        within.append(np.abs(values - exact) <= 2 * errors)
    least = 0.9 * seeds if seeds == 200 else least_hits(seeds, 0.95)
    assert (np.sum(within, axis=0) >= least).all()
    plain, after = (hutchinson(of_matrix(a), tolerance=0.01, max_products=5000, known=known) for known in (None, pairs))
    assert after.products < plain.products / 5


def test_a_run_that_is_there_counts_as_the_first_probe_of_the_density():
    operator = of_matrix(matrix(hessian_like()))
    pairs = lanczos(operator, top=1, bottom=1, tolerance=0.0, max_products=60, seed=0)
    again, new = density(operator, probes=2, steps=60, first=pairs.rule()), density(operator, probes=2, steps=60)
    assert (again.products, new.products) == (60, 120)
    np.testing.assert_array_equal(again.density, new.density)


def test_against_scipy():
    a = matrix(hessian_like())
    found = lanczos(of_matrix(a), top=3, bottom=2, tolerance=1e-8)
    expected = [eigsh(a, k=k, which=which, return_eigenvectors=False) for k, which in ((3, "LA"), (2, "SA"))]
    np.testing.assert_allclose(found.values, np.sort(np.concatenate(expected))[::-1], rtol=1e-9)


@pytest.mark.full
@pytest.mark.slow
def test_hutch_plus_plus_needs_fewer_products_where_few_values_carry_the_trace():
    a = matrix([100.0, 60.0, 30.0, 10.0] + [0.01] * 96)
    plain, better = (f(of_matrix(a), tolerance=0.01, max_products=5000) for f in (hutchinson, hutch_plus_plus))
    assert better.products < plain.products / 5
    assert better.value == pytest.approx(np.trace(a), rel=0.02)


def test_the_diagonal_lies_within_its_errors():
    a = matrix(hessian_like(60))
    value, error = diagonal(of_matrix(a), probes=400)
    distance = np.abs(value.numpy() - np.diag(a)) / np.maximum(error.numpy(), 1e-12)
    assert 0.9 <= np.mean(distance <= 2) <= 1
    value, error = diagonal(of_matrix(np.diag(np.arange(60.0))), probes=2)
    np.testing.assert_allclose(value, np.arange(60.0))  # exact for a diagonal matrix
    np.testing.assert_allclose(error, 0, atol=1e-12)


def test_density_and_cumulative_curve():
    values = hessian_like()
    found = density(of_matrix(matrix(values)), probes=20, steps=60)
    assert found.products == 20 * 60
    np.testing.assert_allclose(found.weights.sum(1), 1)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=0.01)
    exact = np.array([(values <= x).mean() for x in found.grid])
    away = np.abs(found.grid[:, None] - values[None]).min(1) > 0.3  # a step has no error bar
    assert (np.abs(found.cumulative - exact)[away] <= 4 * found.cumulative_se[away] + 0.01).all()
    mean = (found.nodes * found.weights).sum(1)
    assert mean.mean() == pytest.approx(values.mean(), abs=4 * mean.std() / 20**0.5)


def test_the_density_takes_every_step_even_where_the_ends_are_exact():
    found = density(of_matrix(np.eye(30)), probes=2, steps=20)
    assert found.products == 40
    assert found.cumulative[found.grid < 0.99].max(initial=0) == 0
    assert found.cumulative[-1] == pytest.approx(1)


def net_spectrum(rng):
    """Eigenvalues of the Hessian of a random small network at a random point: a bulk at zero, and negative ones."""
    torch.manual_seed(int(rng.integers(1 << 30)))
    widths = (5, int(rng.integers(3, 9)), 3)
    net = torch.nn.Sequential(
        torch.nn.Linear(widths[0], widths[1]), torch.nn.Tanh(), torch.nn.Linear(widths[1], 3)
    ).double()
    inputs, targets = torch.randn(20, 5).double(), torch.randint(0, 3, (20,))
    scale = rng.uniform(0.3, 3)
    for parameter in net.parameters():
        parameter.data *= scale
    return np.linalg.eigvalsh(explicit_hessian(net, mean_cross_entropy(inputs, targets)).numpy())


def drawn_spectrum(rng):
    size = int(rng.integers(40, 300))
    values = rng.normal(size=size) * 10.0 ** rng.uniform(-4, 1) * rng.choice([1, 0.1, 0.01], size)
    values[:3] += rng.uniform(0, 20, 3)
    return np.where(rng.random(size) < rng.choice([0, 0.7]), 0, values)


def repeated_spectrum(rng):
    """Eigenvalues that a single start vector sees once."""
    return np.concatenate(
        [np.full(int(rng.integers(2, 100)), 5.0), [2.0, 1.0, 0.5], np.zeros(int(rng.integers(0, 200)))]
    )


@pytest.mark.few(1)
@pytest.mark.parametrize("draw", [net_spectrum, drawn_spectrum, repeated_spectrum])
@pytest.mark.parametrize("seeds", counts(20, 100))
def test_the_effective_dimension_lies_within_its_bounds(draw, seeds):
    """In the full suite 100 networks, 100 drawn spectra, 100 with repeated eigenvalues; a density from few products."""
    rng = np.random.default_rng(0)
    narrow = 0
    for seed in range(seeds):
        values, z = draw(rng), 10.0 ** rng.uniform(-5, 1)
        operator = of_matrix(matrix(values, seed))
        pairs = lanczos(operator, top=int(rng.integers(1, 11)), bottom=1, max_products=60, seed=seed)
        spectrum = density(operator, probes=int(rng.integers(1, 4)), steps=40, first=pairs.rule(), seed=seed)
        found = effective_dimension(pairs.values[:-1], z, size=len(values), highest=pairs.bounds[1], spectrum=spectrum)
        exact = (np.maximum(values, 0) / (np.maximum(values, 0) + z)).sum()
        assert found.low - 1e-6 <= exact <= found.high + 1e-6
        narrow += found.high - found.low < 0.9 * len(values)
    assert narrow >= seeds / 4  # bounds that say nothing would hold, too


@pytest.mark.few(1)
@pytest.mark.parametrize("draw", [net_spectrum, drawn_spectrum, repeated_spectrum])
@pytest.mark.parametrize("seeds", counts(20, 100))
def test_the_estimate_of_the_effective_dimension_lies_within_its_error(draw, seeds):
    """In the full suite 100 of each kind; the error says something: it is mostly below the value."""
    rng = np.random.default_rng(1)
    within, said = 0, []
    for seed in range(seeds):
        values, z = draw(rng), 10.0 ** rng.uniform(-4, 1)
        spectrum = density(of_matrix(matrix(values, seed)), probes=int(rng.integers(1, 6)), steps=32, seed=seed)
        found = effective_dimension([], z, size=len(values), spectrum=spectrum)
        exact = (np.maximum(values, 0) / (np.maximum(values, 0) + z)).sum()
        within += abs(found.value - exact) <= 2 * found.error + 1e-6 * exact
        said.append(found.error / exact)
    assert within >= (92 if seeds == 100 else least_hits(seeds, 0.95))
    assert np.median(said) < 1


@pytest.mark.parametrize(
    ("values", "z", "steps", "first"),
    [
        (10.0 ** np.linspace(-6, 2, 300), 1e-2, 20, 40),  # one rule is longer than the others
        (10.0 ** np.linspace(-6, 2, 300), 0.1, 10, 30),
        (10.0 ** np.linspace(-10, 2, 300), 1e-5, 40, 0),  # more steps see the same, and no more
        (np.concatenate([np.zeros(250), np.full(50, 1e-4), 10.0 ** np.linspace(0, 4, 30)]), 1e-3, 20, 0),
        (10.0 ** np.linspace(-6, 2, 300), 1.0, 1, 0),
    ],
)
def test_the_error_of_the_effective_dimension_holds_what_rules_do_not_resolve(values, z, steps, first):
    exact = (values / (values + z)).sum()
    for seed in range(5):
        operator = of_matrix(matrix(values, seed))
        long = lanczos(operator, tolerance=0.0, max_products=first, seed=seed + 99).rule() if first else None
        spectrum = density(operator, probes=6, steps=steps, first=long, seed=seed)
        found = effective_dimension([], z, size=len(values), spectrum=spectrum)
        assert abs(found.value - exact) <= 2 * found.error


def test_the_effective_dimension_without_more_knowledge():
    values = np.sort(np.abs(hessian_like()))[::-1]
    exact = (values / (values + 0.1)).sum()
    for k in (0, 1, 10, 200):
        found = effective_dimension(values[:k], 0.1, size=200)
        assert found.low - 1e-9 <= exact <= found.high + 1e-9
    assert found.low == pytest.approx(found.high)
    with pytest.raises(ValueError, match="must be positive"):
        effective_dimension([1.0], 0.0, size=3)


def test_the_density_smears_nothing_beyond_the_smallest_eigenvalue():
    """A bulk at zero, eigenvalues at -1 and 100: one percent of the range is as wide as the gap to the smallest."""
    values = np.concatenate([[-1.0, 100.0], np.zeros(198)])
    found = density(of_matrix(np.diag(values)), probes=2, steps=5)
    below = found.grid < -1.0
    assert np.trapezoid(found.density[below], found.grid[below]) < 1.5 / 200  # half of that eigenvalue, about
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=0.01)
