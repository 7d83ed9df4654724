"""For mkdocs (`make docs`): the site's pages that do not lie in docs/, and links between the two.

On a forge every link of a page leads to a file of the repository; the site has those files in other places.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# file of the repository -> its place in the site; whatever lies in docs/ keeps its own
PLACES = {
    "README.md": "index.md",
    "README.zh.md": "index.zh.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "LICENSE": "LICENSE.txt",
    "src/steel_data/resources/NOTICE.md": "NOTICE.txt",
    **{f"recipes/{file.name}": f"recipes/{file.name}" for file in (ROOT / "recipes").glob("*.toml")},
}
SOURCES = {place: source for source, place in PLACES.items()}


def on_files(files: Files, config: Any) -> Files:
    """Add the files from outside of docs/."""
    for source, place in PLACES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page with its links turned to the places that the files have in the site."""
    here = page.file.src_uri
    source = PurePosixPath(SOURCES.get(here, f"docs/{here}"))

    def turned(match: re.Match[str]) -> str:
        if "://" in match[1]:
            return match[0]
        target = os.path.normpath(source.parent / match[1])
        place = PLACES.get(target, target.removeprefix("docs/"))
        return "](" + os.path.relpath(place, PurePosixPath(here).parent)

    # "not-run" and its reason are for the tests; the site's Markdown knows no second word behind a fence
    markdown = re.sub(r"^```(\w+) not-run\n# not run in tests: .*\n", r"```\1\n", markdown, flags=re.M)
    # a line break between two Chinese characters would be shown as a blank
    markdown = re.sub(r"(?<=[\u3001-\u9fff\uff01-\uff60])\n(?=[\u4e00-\u9fff])", "", markdown)
    return re.sub(r"\]\(([^)\s#]+)", turned, markdown)
