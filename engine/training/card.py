"""The model card: what the bundle is, what it learned from, how well it does, where it is weak."""

from typing import Any

from engine.encoders.bundle import FileRecord

LANGUAGES = tuple("bn da de en es et fi fr hi hu it ja ko lt ms nb nl pl pt ru sv th uk vi zh zh-hant cs".split())

TEMPLATE = """# Semblance default bundle

Embeds texts and pictures into one space of 256 dimensions; cosines compare them. Prefixes of 64 and 128 dimensions were
trained to work alone.

## What is inside
| part | from | parameters |
|---|---|---|
| image tower | EfficientNet-Lite2 and, beside it, Lite0 (both ImageNet), a new head over both | {image:,} |
| text tower | multilingual-e5-small, a new head | {text:,} |
| token vectors | multilingual-e5-small, pruned to the languages served, 4 bits a weight | {tokens:,} |

{megabytes:.1f} MB on disk. Quantisation makes the files small, it does not remove parameters.
Pictures are squashed (not cropped) to the square the tower looks at; texts are read up to 64 tokens.

## What it was trained on
- Flickr8k (6,000 photos of its training split and the 91 without one) with captions in English, Chinese, German, and
  translations into French, Czech (Multi30k) and Japanese (machine translation). The data set states no licence beyond citing
  its authors: treat it as research data.
- A fashion catalogue of 11,203 products with titles, and everyday queries in six languages made from their attributes. It
  states no licence beyond citing its authors: treat it as research data.
- 1,552 emoji pictures with labels and tags in 28 languages (MIT).
- The 1,000 classifier rows of the ImageNet network with their class names: as pictures of general objects that were not seen, and
  kept in the image head, which adds the names of what it recognises to the vector of a picture.
The pretrained towers were trained by others on ImageNet and on web text. The text tower was kept near all-MiniLM-L6-v2's vectors
of the English texts; that model has itself seen image captions (texts of Flickr30k, which overlap Flickr8k's photos, and of
COCO). No picture of these sets is in the bundle.

Languages: {languages}.

## How well it does
Percent of queries with a right answer among the first 1, 5, 10; median rank. One run, seed {seed}, measured on the exported bundle.
Everything was chosen on validation data; `test` was only measured. Products that share a title are all right answers.

{figures}

## Where it is weak
- It is a small model trained on few photos: web-scale models (CLIP and later) find the photo of a caption about three times as
  often at rank 1.
- Counting, who does what to whom, negation, and text inside pictures: it sees what is there more than how it relates.
- Objects that none of its sources show or name; general objects beyond people, dogs, sports, clothes and emoji are known from
  class names and drawings, not from photos. Recognition of ImageNet's classes carries them: what is in none of these is weakest.
- Brands it has not seen, and fine differences between two products of one brand.
- Faces and identities: it must not be used to recognise people.
- Languages other than English, Chinese and German have been learned from translations, labels and short queries.
"""


def model_card(parameters: dict[str, int], sizes: dict[str, FileRecord], training: dict[str, Any]) -> str:
    """Write the card from the figures of a run."""
    return TEMPLATE.format(
        **parameters,
        megabytes=sum(size.bytes for size in sizes.values()) / 1e6,
        languages=", ".join(LANGUAGES),
        seed=training.get("seed", "?"),
        figures=figures_table(training.get("figures", {})),
    )


def figures_table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Lay out a report as a Markdown table."""
    lines = ["| queries | direction | n | R@1 | R@5 | R@10 | median rank |", "|---|---|---|---|---|---|---|"]
    for name, directions in figures.items():
        for direction, row in directions.items():
            numbers = " | ".join(f"{row[key]:.1f}" for key in ("r1", "r5", "r10", "median_rank"))
            lines.append(f"| {name} | {direction.replace('_', ' ')} | {row['queries']:.0f} | {numbers} |")
    return "\n".join(lines)
