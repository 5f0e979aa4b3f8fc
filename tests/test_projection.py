import numpy as np
import pytest

from lossatlas.parameter_space import principal_components, project, projection
from lossatlas.parameter_space.projection import product_matrix


@pytest.mark.parametrize("columns", [50, 1001])
def test_components_against_a_singular_value_decomposition(monkeypatch, columns):
    monkeypatch.setattr(projection, "COLUMNS", 100)
    rows = np.random.default_rng(0).normal(size=(9, columns)) @ np.diag(np.linspace(3, 0.1, columns))
    found = principal_components(rows.astype(np.float32))
    _, singular, vectors = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(found.singular_values, singular[:2], rtol=1e-6)
    np.testing.assert_allclose(np.abs((found.vectors * vectors[:2]).sum(1)), 1, atol=1e-6)
    np.testing.assert_allclose(found.explained_variance_ratio, singular[:2] ** 2 / (singular**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(found.explained_variance, singular[:2] ** 2 / 8, rtol=1e-6)


def test_inner_products_do_not_depend_on_the_chunk(monkeypatch):
    a = np.random.default_rng(1).normal(size=(3, 77)).astype(np.float32)
    whole = product_matrix(a, a)
    monkeypatch.setattr(projection, "COLUMNS", 10)
    np.testing.assert_allclose(product_matrix(a, a), whole, rtol=1e-12)


def test_a_trajectory_on_a_line_spans_no_plane():
    rows = np.arange(4)[:, None] * np.ones((1, 6))
    with pytest.raises(ValueError, match="span 1 direction"):
        principal_components(rows)


def test_projection_is_exact_for_directions_of_any_length_and_angle():
    generator = np.random.default_rng(2)
    plane = generator.normal(size=(2, 40)) * np.array([[30], [0.01]])
    plane[1] += plane[0] / 100  # far from a right angle
    coordinates, off = generator.normal(size=(5, 2)), generator.normal(size=40)
    off -= plane.T @ np.linalg.lstsq(plane.T, off, rcond=None)[0]
    found, distances = project(coordinates @ plane + np.arange(5)[:, None] * off, plane)
    np.testing.assert_allclose(found, coordinates, rtol=1e-6)
    np.testing.assert_allclose(distances, np.arange(5) * np.linalg.norm(off), atol=1e-5)
    with pytest.raises(ValueError, match="dependent"):
        project(plane, np.stack([plane[0], 2 * plane[0]]))
    long_and_short = np.eye(2, 40) * np.array([[1], [1e-9]])
    np.testing.assert_allclose(project(plane[:1], long_and_short)[0], [plane[0, :2] / [1, 1e-9]])
    with pytest.raises(ValueError, match="dependent"):
        project(plane, np.stack([plane[0], np.zeros(40)]))
    with pytest.raises(ValueError, match="not finite"):
        project(plane, np.stack([plane[0], np.full(40, np.nan)]))


@pytest.mark.parametrize("count", [3, 4, 9])
def test_the_origin_of_the_rows_does_not_matter(count):
    """Components are those of all rows, whichever of them was subtracted from the others."""
    rows = np.random.default_rng(3).normal(size=(count, 200)) @ np.diag(np.linspace(2, 0.1, 200))
    _, singular, vectors = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    for origin in (rows[0], rows[-1]):
        found = principal_components(rows - origin)
        np.testing.assert_allclose(found.explained_variance_ratio, singular[:2] ** 2 / (singular**2).sum(), rtol=1e-9)
        np.testing.assert_allclose(np.abs((found.vectors * vectors[:2]).sum(1)), 1, atol=1e-9)


@pytest.mark.parametrize(("second", "spans"), [(1e-4, True), (1e-6, False)])
def test_a_component_within_the_rounding_of_the_points_is_none(second, spans):
    generator = np.random.default_rng(4)
    u, v, w = generator.normal(size=(3, 1000)) / np.sqrt(1000)
    t = np.linspace(-1, 1, 6)[:, None]
    points = (30 * w + t * u + second * t**2 * v).astype(np.float32)
    rounding = np.finfo(np.float32).eps * np.linalg.norm(points[-1].astype(float))
    if spans:
        found = principal_components(points - points[-1], rounding=rounding)
        assert abs(found.vectors[1] @ (v - v @ u / (u @ u) * u)) == pytest.approx(1, abs=0.1)
    else:
        with pytest.raises(ValueError, match="span 1 direction beyond rounding"):
            principal_components(points - points[-1], rounding=rounding)


def test_complex_tensors_have_two_coordinates_for_each_number():
    """Their imaginary parts were left out of trajectories."""
    torch = pytest.importorskip("torch")
    from lossatlas.jobs.trajectory.checkpoint_projection import differences, plane_coordinates, principal_plane

    class Spectral(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(5, dtype=torch.complex64))
            self.v = torch.nn.Parameter(torch.zeros(3))

    generator = torch.Generator().manual_seed(0)
    points = [
        {"w": torch.randn(5, dtype=torch.complex64, generator=generator), "v": torch.randn(3, generator=generator)}
        for _ in range(5)
    ]
    rows = differences(lambda k: points[k], 5, points[-1], Spectral())
    found, plane = principal_plane(rows, points[-1])
    where, distance = plane_coordinates(rows, plane, "the trajectory")
    flat = np.stack([np.concatenate([torch.view_as_real(p["w"]).numpy().ravel(), p["v"].numpy()]) for p in points])
    singular = np.linalg.svd(flat - flat.mean(0), compute_uv=False)
    np.testing.assert_allclose(found.explained_variance_ratio, singular[:2] ** 2 / (singular**2).sum(), rtol=1e-5)
    lengths = np.linalg.norm(flat - flat[-1], axis=1)
    np.testing.assert_allclose(np.sqrt((where**2).sum(1) + distance**2), lengths, rtol=1e-5, atol=1e-6)
