"""The READMEs' pictures: there, small, described, made by a target of the Makefile."""

import re
import struct
import zlib
from pathlib import Path

import pytest
from docs.take_pictures import HEIGHTS, LANGUAGES, WIDTH, smaller

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs/pictures"
SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+\.png)\)")


def size(png):
    return struct.unpack(">II", png[16:24])


def test_the_folder_holds_what_the_script_takes():
    names = {f"{name}{'' if language == 'en' else '.zh'}.png" for name in HEIGHTS for language in LANGUAGES}
    assert {file.name for file in PICTURES.iterdir()} == names
    for file in PICTURES.iterdir():
        png = file.read_bytes()
        assert len(png) < 200_000, file
        assert size(png) == (WIDTH, HEIGHTS[file.name.partition(".")[0]]), "renew it: make pictures"


@pytest.mark.parametrize(("readme", "ending"), [("README.md", ".png"), ("README.zh.md", ".zh.png")])
def test_each_readme_shows_those_of_its_language(readme, ending):
    shown = SHOWN.findall((ROOT / readme).read_text(encoding="utf-8"))
    assert [place for _, place in shown] == [f"docs/pictures/{name}{ending}" for name in HEIGHTS]
    assert all(len(words) > 15 for words, _ in shown)  # what is to be seen, for who does not see it


def test_no_other_picture_is_in_the_repository_and_make_takes_them():
    others = [
        p for kind in ("png", "jpg", "gif", "webp") for p in ROOT.glob(f"docs/**/*.{kind}") if p.parent != PICTURES
    ]
    assert others == []
    assert "\npictures: " in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_a_picture_is_packed_without_loss():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes([y, 0, 0]) * 40 for y in range(40))
    head, packed = struct.pack(">IIBBBBB", 40, 40, 8, 2, 0, 0, 0), zlib.compress(rows, 0)
    half = len(packed) // 2
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part)
        for part in (
            (b"IHDR", head), (b"tEXt", b"who\0me"), (b"IDAT", packed[:half]), (b"IDAT", packed[half:]), (b"IEND", b""),
        )
    )  # fmt: skip
    found = smaller(whole)
    assert len(found) < len(whole) / 10 and b"tEXt" not in found and size(found) == (40, 40)
    at = found.index(b"IDAT")
    assert zlib.decompressobj().decompress(found[at + 4 :]) == rows
