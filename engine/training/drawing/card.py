"""The card of a decoder: what it draws from, what it learned from, how well it does, where it is weak."""

from typing import Any

TEMPLATE = """# Semblance default decoder

Draws a picture of 128 x 128 pixels from a vector of the default bundle's search space. It is for showing what was asked for and
for finding the real products nearest to it: a drawing is not a product.

{megabytes:.1f} MB on disk: a flow ({flow} parameters), a picture decoder ({picture} parameters), a linear map back to latents.

## What it was trained on
- A fashion catalogue's 11,203 training products, with the vectors of their pictures, titles and English everyday
  queries. It states no licence beyond citing its authors: treat it as research data.
- 1,552 emoji pictures with the vectors of their pictures and of their English and Chinese labels (MIT).
Nothing else: it cannot draw what a fashion shop and an emoji font do not show.

{course}

## How well it does
Judged by other backbones and other heads than those that it is conditioned on (EfficientNet-Lite0, all-MiniLM-L6-v2), among
the distinct titles of the shop's validation products, none of which it was trained on. Drawn from the title's vector alone.

{figures}

## Where it is weak
- It is small and was trained for minutes, not days: outlines are soft, prints and logos are blots, faces are not faces.
- Types with few training products, and everything outside clothes, shoes, bags, watches and emoji.
- It knows only what the vector says. Words that the encoder does not understand do not reach it.
"""


def decoder_card(training: dict[str, Any], size: int) -> str:
    """Write the card from what a run recorded."""
    parameters = training.get("parameters", {})
    return TEMPLATE.format(
        megabytes=size / 1e6,
        flow=f"{parameters.get('flow', 0):,}",
        picture=f"{parameters.get('picture', 0):,}",
        course=training.get("course", "How long it was trained was not recorded."),
        figures=figures_table(training.get("figures", {})),
    )


def figures_table(figures: dict[str, dict[str, float]]) -> str:
    """Lay out figures as a Markdown table: one row for each way of making a picture."""
    if not figures:
        return "Not measured."
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    lines = [f"| picture | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in figures.items():
        lines.append(f"| {name} | {' | '.join(f'{row[column]:.1f}' if column in row else '' for column in columns)} |")
    return "\n".join(lines)
