"""From a catalogue to pairs of titles and pictures, for the commands that train on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.output import note
from cli.progress import meter

if TYPE_CHECKING:
    from engine.evaluation.catalogue import Product
    from engine.search import SearchEngine
    from engine.training.adapt import Pairings, Verdict
    from engine.training.pairs import Split

CATALOGUE = "catalogue"


def embedded(engine: "SearchEngine", catalog: Path, mapping: Sequence[str]) -> "Sequence[Product]":
    """Embed the catalogue into a collection of the work folder; what is unchanged since the last run costs nothing."""
    from cli.index import columns_of
    from engine.evaluation.catalogue import read_products
    from indexer.job import IndexRequest, index_catalogue

    request = IndexRequest(catalog, CATALOGUE, columns_of(mapping), prune=True)
    with meter("embedding the catalogue", "rows") as bar:
        report = index_catalogue(engine, request, progress=lambda progress: bar.show(progress.read, progress.total))
    if report.errors is not None:
        note(f"rows that were left out, with reasons: {report.errors}")
    return read_products(engine.collection(CATALOGUE))


def pairings(products: "Sequence[Product]") -> "Pairings":
    """Pair titles with pictures. Products that share a title are right for one another; a column `split` is honoured."""
    import numpy as np

    from engine.training.adapt import Pairings

    both = paired(products)
    titles = [" ".join(p.document.title.lower().split()) for p in both]
    given: list[Any] = [p.document.attributes.get("split") for p in both]
    known: Sequence[Split] | None = given if both and all(split in ("train", "val", "test") for split in given) else None
    empty = np.zeros((0, 256), np.float32)
    texts, images = (np.stack([getattr(p, view) for p in both]) if both else empty for view in ("title", "image"))
    return Pairings.build(texts, images, titles, titles, known)


def paired(products: "Sequence[Product]") -> "list[Product]":
    """Keep the products that have a title and a picture."""
    return [p for p in products if p.title is not None and p.image is not None]


def say_verdict(verdict: "Verdict", after: str = "with heads") -> None:
    """Say what was found before and after training."""
    for name, found in (("encoder alone", verdict.before), (after, verdict.after)):
        note(f"{name}: R@1 {found.r1:.1f}, R@10 {found.r10:.1f}, median rank {found.median_rank:g} of {found.queries} titles")
    note(f"MRR {verdict.gain:+.3f} (95 % interval {verdict.low:+.3f} to {verdict.high:+.3f})")
