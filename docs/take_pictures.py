"""Build the demo's card, report and study from invented rows and take the READMEs' pictures of them (`make pictures`).

    python docs/take_pictures.py runs/pictures docs/pictures

Needs a Chromium, and the minutes of training that `make demo` needs. What is built already is not built again.
"""

import asyncio
import base64
import struct
import subprocess
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.chromium import tab  # noqa: E402 - the tests' own driver of a browser

WIDTH = 1000
HEIGHTS = {"card": 720, "report": 860, "study": 900}  # as far down as the picture goes
LANGUAGES = ("en", "zh")


def pages(work: Path) -> dict[str, Path]:
    """Return name -> page, built below `work` by the commands that a reader would type."""

    def run(package: str, *arguments: object) -> None:
        subprocess.run([sys.executable, "-m", package, *map(str, arguments)], cwd=ROOT, check=True)

    data, study = work / "data", work / "study"
    if not data.is_dir():
        run("steel_data", "sample", data)
    run("steel_data", "build", "recipes/demo.toml", "--data-root", data, "--out", work / "mixture")
    run(
        "steel_eval",
        "study",
        "recipes/study-demo.toml",
        "--data",
        data,
        "--out",
        study,
        "--workers",
        2,
        "--set",
        "eval.detectors=false",
    )  # far below what the picture shows
    arms = [f"{name}={study / name / 'seed-1'}" for name in ("clean", "injected")]
    run("steel_eval", "report", *arms, "--out", work / "report.html")
    return {"card": work / "mixture/card.html", "report": work / "report.html", "study": study / "study.html"}


async def take(found: dict[str, Path], out: Path) -> None:
    """Write the head of each page in each language, `card.png` and `card.zh.png`."""
    async with tab() as opened:
        for name, page in found.items():
            await opened.open(page.resolve().as_uri(), WIDTH)
            for language in LANGUAGES:
                await opened.run(f"document.getElementById('{language}').click()")
                clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHTS[name], "scale": 1}
                shot = await opened.ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
                file = out / f"{name}{'' if language == 'en' else '.' + language}.png"
                file.write_bytes(smaller(base64.b64decode(shot["data"])))
                print(f"{file}: {file.stat().st_size:,} bytes")


def smaller(png: bytes) -> bytes:
    """Return the same picture, packed as closely as zlib can; what is not needed to draw it is left out."""
    parts, at, packed = [png[:8]], 8, b""
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body, at = png[at + 8 : at + 8 + length], at + 12 + length
        packed += body if kind == b"IDAT" else b""
        if kind == b"IEND":
            parts.append(_chunk(b"IDAT", zlib.compress(zlib.decompress(packed), 9)))
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IEND"):
            parts.append(_chunk(kind, body))
    return b"".join(parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


if __name__ == "__main__":
    work, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(pages(work), out))
