"""`semblance train-tower`: a language model that reads the texts of one's own catalogue."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.failures import usage_error
from cli.output import note, say_json
from cli.pairing import embedded, paired, pairings, say_verdict
from cli.progress import meter

if TYPE_CHECKING:
    from engine.encoders.causal import CausalTower


def train_tower(  # noqa: PLR0913, PLR0917  one parameter per option
    model: Annotated[str, typer.Argument(metavar="hf:MODEL", help="The language model: hf:ORG/MODEL or hf:FOLDER.")],
    catalog: Annotated[Path, typer.Option("--catalog", metavar="FILE", help="The catalogue whose titles and pictures teach it.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the tower.")],
    lora: Annotated[
        int, typer.Option("--lora", metavar="STEPS", min=0, help="Steps of LoRA on the language model; 0 trains its adapter alone.")
    ] = 0,
    mapping: Annotated[
        list[str] | None, typer.Option("--map", metavar="PART=COLUMN", help="Name a column of the catalogue, as `index` does.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option("--work", metavar="DIR", help="Folder for embedded pictures.  (default: OUTPUT.work)")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything that is drawn.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Train a language model as text tower: an adapter from its states into the encoder's space.

    Pictures stay where they are. It needs the extra `models`.
    """
    language = _load(model)
    from engine.encoders.adapted import PREFIX
    from engine.encoders.causal import write_tower
    from engine.training.adapt import verdict_on
    from engine.training.tower import TowerCourse, embed_titles
    from engine.training.tower import train_tower as train

    with options.open_engine_for(work or output.with_name(f"{output.name}.work")) as engine:
        products = embedded(engine, catalog, mapping or [])
        pairs, titles = pairings(products), [product.document.title for product in paired(products)]
        with meter("training the text tower", "steps") as bar:
            train(language, titles, pairs, TowerCourse(lora_steps=lora), seed=seed, report=bar.show)
        rows = pairs.part("val")
        told = embed_titles(language, [titles[row] for row in rows])
        verdict = verdict_on(pairs, pairs.texts[rows] @ pairs.images[rows].T, told @ pairs.images[rows].T, seed=seed)
        training = verdict.as_dict() | {"seed": seed, "pairs": len(titles), "lora_steps": lora}
        write_tower(output, language, model.removeprefix("hf:"), engine.encoder, training)
    if json:
        say_json({"tower": str(output), **verdict.as_dict()})
        return
    say_verdict(verdict, after=f"with {model}")
    note(f"wrote {output}: `semblance reindex NAME --encoder {PREFIX}{output}` makes new vectors while the old ones serve")


def _load(model: str) -> "CausalTower":
    from engine.errors import MissingExtra

    if not model.startswith("hf:"):
        raise usage_error(f"the model is {model!r}: name a language model as hf:ORG/MODEL or hf:FOLDER")
    try:
        from engine.encoders.causal import CausalTower
    except ImportError:
        raise MissingExtra("a language model as text tower", "models") from None
    return CausalTower.load(model.removeprefix("hf:"))
