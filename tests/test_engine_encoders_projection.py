"""Any width becomes 256; narrow models lose nothing, wide ones as little as can be."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from engine.encoders.projection import LEAST_SAMPLES, Projection, fit_projection
from engine.errors import ModelError

NONE = np.zeros((0, 512), np.float32)


def features(count: int, width: int = 512, seed: int = 0) -> np.ndarray:
    """Rows as models give them: a common part, and variance that falls off quickly over directions."""
    chance = np.random.default_rng(seed)
    axes = np.linalg.qr(np.random.default_rng(99).standard_normal((width, width)))[0]
    rows = chance.standard_normal((count, width)) * (np.arange(width) + 1.0) ** -0.6
    return ((rows + 0.8 * (np.arange(width) == 0)) @ axes.T).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def overlap_at_10(projection: Projection, rows: np.ndarray) -> float:
    """Say how many of the ten nearest neighbours stay."""
    near = [np.argsort(-(v[:200] @ v[200:].T), axis=1)[:, :10] for v in (unit(rows), projection.apply(rows))]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*near, strict=True)]))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 256), st.integers(0, 2**32 - 1))
def test_up_to_256_wide_no_cosine_changes(width: int, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((12, width)).astype(np.float32)
    vectors = Projection.default(width).apply(rows)
    assert vectors.shape == (12, 256)
    np.testing.assert_allclose(vectors @ vectors.T, unit(rows) @ unit(rows).T, atol=1e-5)


def test_256_wide_is_left_alone() -> None:
    rows = unit(features(5, 256))
    assert Projection.default(256).kind == "identity"
    np.testing.assert_allclose(Projection.default(256).apply(rows), rows, atol=1e-6)


@pytest.mark.parametrize("width", [257, 384, 512, 1152])
def test_the_map_that_needs_no_data_is_orthonormal_and_keeps_cosines_roughly(width: int) -> None:
    projection = Projection.default(width)
    assert projection.kind == "cosine"
    np.testing.assert_allclose(projection.matrix.T @ projection.matrix, np.eye(256), atol=1e-5)
    rows = np.random.default_rng(5).standard_normal((200, width)).astype(np.float32)
    error = projection.apply(rows) @ projection.apply(rows).T - unit(rows) @ unit(rows).T
    assert np.sqrt(np.mean(error**2)) < 1.1 * np.sqrt(1 / 256 - 1 / width)


def test_it_is_the_same_map_everywhere() -> None:
    golden = [-0.06248559, -0.06244236, -0.06237033, -0.06226954]
    np.testing.assert_allclose(Projection.default(512).matrix[3, :4], golden, atol=1e-6)


def test_a_fitted_map_keeps_more_neighbours() -> None:
    fitted, held_out = fit_projection(features(3000), NONE), features(1000, seed=1)
    assert overlap_at_10(fitted, held_out) > overlap_at_10(Projection.default(512), held_out) + 0.05
    assert fitted.energy(held_out) > 0.9 > Projection.default(512).energy(held_out)


def test_pictures_and_texts_count_the_same() -> None:
    images, texts = features(2000), features(300, seed=3)[:, ::-1].copy()
    together = fit_projection(images, texts)
    assert together.energy(texts) > 0.8
    assert together.energy(images) > 0.8
    assert fit_projection(images, NONE).energy(texts) < together.energy(texts)
    np.testing.assert_allclose(together.matrix.T @ together.matrix, np.eye(256), atol=1e-5)


def test_too_little_to_fit() -> None:
    with pytest.raises(ModelError, match="at least 256"):
        fit_projection(features(LEAST_SAMPLES - 1), NONE)


def test_a_narrow_model_needs_no_fitting() -> None:
    assert fit_projection(features(300, 100), features(0, 100)).kind == "padded"


def test_saved_and_loaded(tmp_path: Path) -> None:
    fitted = fit_projection(features(300), NONE)
    fitted.save(tmp_path / "deep" / "p.safetensors")
    loaded = Projection.load(tmp_path / "deep" / "p.safetensors", 512)
    np.testing.assert_array_equal(loaded.matrix, fitted.matrix)
    assert loaded.fingerprint == fitted.fingerprint
    assert fitted.fingerprint != fit_projection(features(300, seed=8), NONE).fingerprint


def test_fingerprints_tell_maps_apart() -> None:
    prints = {Projection.default(width).fingerprint for width in (100, 255, 256, 257, 512)}
    assert len(prints) == 5


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(ModelError, match="cannot be read"):
        Projection.load(path, 512)
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="fit it again"):
        Projection.load(path, 512)
    save_file({"other": np.zeros((512, 256), np.float32)}, path)
    with pytest.raises(ModelError, match="fit it again"):
        Projection.load(path, 512)
    save_file({"matrix": np.zeros((512, 256), np.float32)}, path)
    with pytest.raises(ModelError, match="fit it again"):
        Projection.load(path, 512)
    fit_projection(features(300), NONE).save(path)
    with pytest.raises(ModelError, match=r"needs float32 \(640, 256\)"):
        Projection.load(path, 640)
