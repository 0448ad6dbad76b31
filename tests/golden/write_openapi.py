"""Writes openapi.json, the contract that clients rely on: run it when the API was changed on purpose, and read the difference.

python tests/golden/write_openapi.py
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from api.app import create_app  # noqa: E402
from engine.config import Settings  # noqa: E402

TARGET = Path(__file__).with_name("openapi.json")


def document() -> str:
    """Render the document of an application with default settings, without the version of the package."""
    found = create_app(Settings()).openapi()
    found["info"]["version"] = ""
    return json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
