"""A finished mixture on disk: its manifest, its rows, whether it is whole, and its other forms.

`read_manifest` needs no data library; the other names are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steel_data.mixture.manifest import damaged, read_manifest

if TYPE_CHECKING:
    from steel_data.mixture.check import check_mixture
    from steel_data.mixture.rows import files, rows_at, scan
    from steel_data.mixture.show import show_rows

__all__ = ["check_mixture", "damaged", "files", "read_manifest", "rows_at", "scan", "show_rows"]
_LATER = {"check_mixture": "check", "files": "rows", "rows_at": "rows", "scan": "rows", "show_rows": "show"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
