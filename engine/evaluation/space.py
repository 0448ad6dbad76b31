"""The shape of the joint space: the gap between texts and pictures, hubs, and a map in two dimensions.

Functions here take vectors and know nothing of collections.
"""

import logging
import warnings
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float32, Int64

from engine.datatypes import Vectors

logger = logging.getLogger(__name__)

NEIGHBOURS = 10
LEAST_FOR_MAP = 300  # fewer are read as well by their main components, and PaCMAP compiles itself for half a minute
MAP_POINTS = 2_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What the space looks like.

    `gap` is the distance between the mean text and the mean picture (Liang et al., NeurIPS 2022; 0: none, 2: opposite),
    `alignment` the mean cosine of a text and its own picture, `uniformity` the mean cosine of a text and another's.
    `hubness` is the skewness of how often a picture is among the ten nearest of all texts (Radovanovic et al., JMLR 2010; 0: every
    picture alike, above 1: a few crowd the answers), `never_found` the share that is never among them.
    """

    gap: float
    alignment: float
    uniformity: float
    hubness: float
    never_found: float

    def as_dict(self) -> dict[str, float]:
        """Give plain numbers."""
        return {name: round(float(value), 4) for name, value in asdict(self).items()}


def shape_of(texts: Vectors, images: Vectors) -> Shape:
    """Measure the space on rows that belong together: text `i` describes picture `i`. Needs at least two rows."""
    gap = float(np.linalg.norm(texts.mean(0) - images.mean(0)))
    cosines = texts @ images.T
    alignment = float(np.trace(cosines)) / len(cosines)
    uniformity = (float(cosines.sum()) - float(np.trace(cosines))) / (len(cosines) * (len(cosines) - 1))
    found = _occurrences(cosines)
    spread = float(found.std())
    skewness = float(((found - found.mean()) ** 3).mean()) / spread**3 if spread > 0 else 0.0
    return Shape(gap, alignment, uniformity, skewness, float(np.mean(found == 0)))


def _occurrences(cosines: Float32[np.ndarray, "q n"]) -> Int64[np.ndarray, " n"]:
    count = min(NEIGHBOURS, cosines.shape[1])
    best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    counted: Int64[np.ndarray, " n"] = np.bincount(best.ravel(), minlength=cosines.shape[1])
    return counted


def flatten(vectors: Vectors, *, seed: int = 0) -> tuple[Float32[np.ndarray, "n 2"], str]:
    """Lay vectors out in a plane; returns the points, and the name of the method.

    PaCMAP (Wang et al., JMLR 2021) where it is installed and there are points enough, else the two main components.
    """
    if len(vectors) >= LEAST_FOR_MAP:
        try:
            return _pacmap(vectors, seed), "PaCMAP"
        except ImportError:
            logger.info("PaCMAP is not installed: the map shows two principal components")
    centred = vectors - vectors.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    points = np.zeros((len(vectors), 2), np.float32)
    points[:, : len(directions)] = centred @ directions.T
    return points, "principal components"


def _pacmap(vectors: Vectors, seed: int) -> Float32[np.ndarray, "n 2"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba and PaCMAP remark on seeds and on threads
        from pacmap import PaCMAP  # noqa: PLC0415  seconds to import

        points = PaCMAP(n_components=2, n_neighbors=NEIGHBOURS, random_state=seed).fit_transform(vectors, init="pca")
    return np.asarray(points, np.float32)
