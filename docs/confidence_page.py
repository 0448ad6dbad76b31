"""Renders confidence.md from the default bundle's calibration, so that the page says what was measured; `generate.py` writes it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.confidence import FILE, Calibration

BUNDLE = Path(__file__).resolve().parent.parent / "engine/bundles/default"

INTRODUCTION = """
Every answer carries `confidence`, the probability that a relevant product is among its ten best, and `decision`:

| decision | when | what to do |
|---|---|---|
| `answer` | the confidence reaches the threshold | show the hits |
| `broaden` | it does not, but it would without a condition of the filter or one of several terms | offer what `broaden` lists |
| `generate` | it does not, and the query means something | draw it, and show the real products nearest to the drawing |
| `abstain` | the words mean nothing, or the safety rules refuse to draw them | say so |

`broaden` lists what to leave out (`kind` filter or term, `without`), how many would then match (`matches`: the products the rest
of the filter admits, or without a term those that score above what background queries find) and the confidence of the answer that
would give. It is tried only for a query without an answer.

## How sure
A cosine is not a probability, so a result is described by {count} numbers: its best scores and their spread, what each view says
and whether the views agree, how alike the best products are, what 64 background queries find in the same collection (a z-score),
what this query finds in products drawn from all of the collection, whether background queries suit the found products better than
this one does, how well pictures and titles of other shops would have answered it, and whether the products are of the kind asked
for among the {concepts} kinds of things that shops sell. A logistic curve over them gives the probability; against pictures
alone its weights depend on how well the words suit pictures in general, which tells names of things from captions. Words in a
collection with titles, words against pictures alone,
and pictures have a curve each. Weighted terms use the curve of what weighs more. Words of the query that are found in a product
count on top, as in ranking; the figures below are without them.

The threshold is set by conformal risk control with a margin: of the queries that are *answered*, at most the stated share has no
relevant product. That holds for a mix of queries like the one it was set on ({mix}); a shop whose customers ask otherwise fits
its own:

```sh
semblance evaluate --collection shop --calibrate
```
asks the collection's own titles and attribute values, takes products out, and keeps the curve in the collection's folder. It
needs 200 products with pictures and the extra `lab`. An encoder other than the bundle has no confidence until then.
A new bundle is fitted with `semblance train --recipe confidence --data DIR --output BUNDLE`.

## Measured
On the default bundle, validation data only, on the half of the queries the curve was not fitted on. Every query is put to a shop
of random size. *Type removed*: every product of the asked article type was taken out; *item removed*: only the asked ones, their
siblings remain, which is hard; *out of catalogue*: another domain; *nonsense*: letters, signs or characters at random. A Flickr8k
photo's type is the subject most spoken of in its captions, which is rough. Picture queries are other views (nearer, mirrored, in
another light) of the shop's pictures.
""".strip()


def confidence_page(written: str) -> str:
    """Render the page; `written` is the remark that says who wrote it."""
    calibration = Calibration.load(BUNDLE / FILE)
    first = next(iter(calibration.curves))
    mix = ", ".join(f"{share:.0%} {condition}" for condition, share in calibration.figures[first]["mix"].items())
    features = len(calibration.curves[first].weights)
    head = INTRODUCTION.format(count=features, concepts=len(calibration.concepts), mix=mix)
    return "\n\n".join(["# Confidence", written, head, *_sections(calibration)]) + "\n"


def _sections(calibration: Calibration) -> Iterator[str]:
    rows = []
    for name, curve in calibration.curves.items():
        found = calibration.figures[name]
        held = found["held"]
        rows.append(
            f"| {name} | {found['queries']} | {found['ece']:.3f} | {found['brier']:.3f} "
            f"({found['brier of always saying the mean']:.3f}) "
            f"| {curve.risk:.0%} | {held['risk']:.1%} | {held['above']:.0%} | {held['coverage']:.0%} |"
        )
    yield (
        "| curve | queries | calibration error (15 bins) | Brier (of saying the mean) | stated risk | risk in 100 resplits "
        "| resplits above it | answered |\n|---|---|---|---|---|---|---|---|\n" + "\n".join(rows)
    )
    sense = calibration.figures["sense"]
    yield f"Of real words {sense['kept']:.1%} are taken to mean something; of nonsense {sense['caught']:.1%} is caught."
    yield "AUROC of answerable queries against each kind that is not; in brackets the best cosine, margin and entropy alone:"
    for name in calibration.curves:
        yield f"### {name}\n\n" + _aurocs(calibration.figures[name])
        yield _risks(calibration.figures[name])


def _aurocs(figures: Mapping[str, Any]) -> str:
    rows = [
        f"| {row['source']} {row['kind']} {row['language']} | {row['against']} | **{row['confidence']:.3f}** "
        f"({row['cosine']:.3f}, {row['margin']:.3f}, {row['entropy']:.3f}) |"
        for row in figures["auroc"]
    ]
    return "| queries | against | AUROC |\n|---|---|---|\n" + "\n".join(rows)


def _risks(figures: Mapping[str, Any]) -> str:
    points = figures["risk by coverage"]
    head = "| answered | " + " | ".join(f"{share:.0%}" for share, _ in points) + " |\n|---"
    return head + "|---" * len(points) + "|\n| wrong | " + " | ".join(f"{wrong:.1%}" for _, wrong in points) + " |"
