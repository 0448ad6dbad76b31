import numpy as np
import pytest

from engine.ranking import TITLE_SHARE, fuse, view_weights

NAN = float("nan")


def test_a_fused_score_is_the_cosine_of_the_concatenated_vectors():
    rng = np.random.default_rng(0)
    query, image, title = (v / np.linalg.norm(v) for v in rng.normal(size=(3, 256)).astype(np.float32))
    weights = np.array([0.3, 0.7], np.float32)
    scale = np.sqrt(weights)
    expected = np.concatenate([scale[0] * query, scale[1] * query]) @ np.concatenate([scale[0] * image, scale[1] * title])
    scores = fuse(np.array([query @ image], np.float32), np.array([query @ title], np.float32), weights)
    assert scores[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("image", "title", "weights", "expected"),
    [
        (0.4, 0.8, (0.5, 0.5), 0.6),
        (0.4, NAN, (0.5, 0.5), 0.4),
        (NAN, 0.8, (0.5, 0.5), 0.8),
        (0.4, 0.8, (1.0, 0.0), 0.4),
        (NAN, 0.8, (1.0, 0.0), -np.inf),
        (NAN, NAN, (0.5, 0.5), -np.inf),
    ],
)
def test_a_missing_view_leaves_the_score_to_the_other(image, title, weights, expected):
    scores = fuse(np.array([image], np.float32), np.array([title], np.float32), np.array(weights, np.float32))
    assert scores.dtype == np.float32
    assert scores[0] == pytest.approx(expected)


def test_words_look_at_both_views_and_pictures_only_at_pictures():
    assert view_weights(["words"], [1.0], "any") == (1 - TITLE_SHARE, TITLE_SHARE)
    assert view_weights(["picture"], [2.0], "any") == (1.0, 0.0)
    assert view_weights(["words", "picture"], [1.0, 1.0], "any") == (1 - TITLE_SHARE / 2, TITLE_SHARE / 2)
    assert view_weights(["words", "picture"], [-1.0, 1.0], "any") == (1 - TITLE_SHARE / 2, TITLE_SHARE / 2)


def test_a_target_restricts_to_one_view():
    assert view_weights(["words"], [1.0], "image") == (1.0, 0.0)
    assert view_weights(["picture"], [1.0], "title") == (0.0, 1.0)
