"""The data card (placeholder until the real one lands)."""

from pathlib import Path
from typing import Any


def write_card(folder: Path, manifest: dict[str, Any]) -> None:
    """Write card.md and card.html."""
    (folder / "card.md").write_text(f"# {manifest['name']}\n", encoding="utf-8")
    (folder / "card.html").write_text("<!doctype html>", encoding="utf-8")
