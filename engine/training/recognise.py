"""The last step on the image head: ImageNet's classes, known by the vectors of their names.

Nothing is trained here. The classifier that came with the image tower still fits the tuned features (it agrees with itself on
untuned ones for 85 % of the example shop's photos), and the finished text head says where each class belongs.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from engine.datatypes import Vectors
from engine.encoders.heads import ProjectionHead, Recognition
from engine.encoders.texts import TextReader
from engine.encoders.towers import TextTower
from engine.training.features import Progress, StateJob, cache_states, means_of
from engine.training.imagenet import class_captions
from engine.training.pretrained import Classifier

SHARPNESS = 1 / 0.7
UNSEEN, FAMILIAR = 1.0, 0.25
"""What a name is worth beside the rest of the head, which knows little of classes that training never showed."""
HALFWAY = 3.0
"""Training pictures of a class that bring its worth halfway down."""


def recognise(head: ProjectionHead, classifier: Classifier, names: Vectors, pooled: Float32[np.ndarray, "n f"]) -> None:
    """Let a head recognise a classifier's classes, whose names have these vectors.

    `pooled` are the training pictures' features under the untrained tower: the more of them show a class, the less its name is
    worth, because the rest of the head has learned it. The vectors lose their mean, so that a classifier in doubt says nothing.
    """
    if head.recognition is None:
        head.recognition = Recognition(classifier.weight.shape[1], classifier.weight.shape[0])
    sharp = SHARPNESS * torch.from_numpy(classifier.weight), SHARPNESS * torch.from_numpy(classifier.bias)
    seen = (torch.from_numpy(pooled) @ sharp[0].T + sharp[1]).softmax(dim=1).sum(0)
    worth = FAMILIAR + (UNSEEN - FAMILIAR) / (1.0 + seen / HALFWAY)
    vectors = torch.from_numpy(names - names.mean(0))
    head.recognition.classifier.weight.copy_(sharp[0])
    head.recognition.classifier.bias.copy_(sharp[1])
    head.recognition.names.weight.copy_((worth[:, None] * vectors).T)


def class_names(tower: TextTower, reader: TextReader, work: Path, progress: Progress) -> Vectors:
    """Embed ImageNet's 1,000 classes: the mean of all their names in English, Chinese and German, at unit length."""
    captions = class_captions()
    texts = [caption.text for names in captions for caption in names]
    with torch.no_grad():
        states = means_of(cache_states(tower, StateJob(reader, texts, len(tower.layers)), work, 0, progress))
        embedded = tower.head(torch.from_numpy(states.rows.astype(np.float32))).numpy()
    ends = np.cumsum([0, *(len(names) for names in captions)])
    means = np.stack([embedded[first:last].mean(0) for first, last in pairwise(ends)])
    vectors: Vectors = means / np.linalg.norm(means, axis=1, keepdims=True)
    return vectors
