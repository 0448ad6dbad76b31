"""Curves, points and thumbnails as inline SVG and data URIs, so that a report is one file. What is shown is said by the caller."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float32
from PIL import Image

WIDTH, HEIGHT, MARGIN = 460, 260, 40
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")
THUMBNAIL = 96


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str, top: float = 1.0) -> str:
    """Draw curves over a shared horizontal axis of positive numbers, on a logarithmic scale; heights run from 0 to `top`."""
    ends = [point[0] for points in lines.values() for point in points]
    first, last = np.log(min(ends)), np.log(max(ends))
    parts = [_frame(x, y, top, min(ends), max(ends))]
    for number, (label, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = " ".join(
            f"{MARGIN + (WIDTH - 2 * MARGIN) * (np.log(a) - first) / max(last - first, 1e-9):.1f},"
            f"{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * b / top:.1f}"
            for a, b in points
        )
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - MARGIN + 6}" y="{MARGIN + 14 * number}" fill="{colour}">{escape(label)}</text>')
    return f'<svg viewBox="0 0 {WIDTH + 140} {HEIGHT}" role="img" aria-label="{escape(y)} by {escape(x)}">{"".join(parts)}</svg>'


def _frame(x: str, y: str, top: float, first: float, last: float) -> str:
    bottom, right = HEIGHT - MARGIN, WIDTH - MARGIN
    return (
        f'<path d="M{MARGIN},{MARGIN}V{bottom}H{right}" fill="none" stroke="currentColor"/>'
        f'<text x="{MARGIN}" y="{bottom + 16}">{first:g}</text><text x="{right - 20}" y="{bottom + 16}">{last:g}</text>'
        f'<text x="{WIDTH / 2 - 20}" y="{HEIGHT - 6}">{escape(x)}</text><text x="4" y="{MARGIN - 10}">{escape(y)}</text>'
        f'<text x="6" y="{MARGIN + 6}">{top:g}</text><text x="20" y="{bottom}">0</text>'
    )


def scatter(groups: Mapping[str, Float32[np.ndarray, "n 2"]], labels: Mapping[str, Sequence[str]]) -> str:
    """Draw points of several kinds in one plane; a point says its label when it is pointed at."""
    every = np.concatenate(list(groups.values()))
    low, span = every.min(0), np.maximum(every.max(0) - every.min(0), 1e-9)
    size = HEIGHT * 2
    parts = []
    for number, (kind, points) in enumerate(groups.items()):
        places = 10 + (size - 20) * (points - low) / span
        parts += [
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{COLOURS[number]}" fill-opacity=".55">'
            f"<title>{escape(label)}</title></circle>"
            for (a, b), label in zip(places, labels[kind], strict=True)
        ]
        parts.append(f'<text x="{size + 8}" y="{24 + 18 * number}" fill="{COLOURS[number]}">{escape(kind)}</text>')
    return f'<svg viewBox="0 0 {size + 120} {size}" role="img" aria-label="map of the joint space">{"".join(parts)}</svg>'


def thumbnail(location: str | None) -> str:
    """Give a picture file as a small data URI; empty when there is none or it cannot be read."""
    if location is None or "://" in location:
        return ""
    try:
        with Image.open(location) as opened:
            opened.draft("RGB", (THUMBNAIL * 2, THUMBNAIL * 2))
            image = opened.convert("RGB")
    except (OSError, ValueError):
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
