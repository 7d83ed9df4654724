"""What a page in Chinese still says in English: what a reader sees of it when 中文 is chosen, code and data aside."""

import re
from html.parser import HTMLParser

DATA = {"code", "pre", "script", "style", "q"}  # what people wrote elsewhere, or what a machine reads
MARKED = {"en", "text", "mono", "find"}  # classes: the other language, texts of rows, names and digests
VOID = {"meta", "input", "br", "wbr", "link", "hr", "img", "col", "i"}
SENTENCE = re.compile(r"[A-Za-z][a-z'’]*(?:[,;:]?(?: \d[\d,.]*)? [A-Za-z][a-z'’]*){3,}")
BOTH = re.compile(r" · [^·]*[\u4e00-\u9fff]")  # labels hold both languages, one behind the other


class _Reader(HTMLParser):
    """Collects the texts that are shown in Chinese, and the labels that are read aloud."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        classes = set((said.get("class") or "").split())
        if tag not in VOID:
            self.open.append(
                (tag, tag in DATA or bool(classes & MARKED) or (said.get("lang") == "en" and tag != "html"))
            )
        if not self.skipped():
            self.found += [str(said[name]) for name in ("aria-label", "title", "placeholder") if said.get(name)]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and not self.skipped():
            self.found.append(" ".join(data.split()))

    def skipped(self) -> bool:
        return any(skip for _, skip in self.open)


def english_left(page: str, data: str = "$^") -> list[str]:
    """Return the sentences (four English words and more) that a page shows in Chinese; `data`: a pattern of names."""
    reader = _Reader()
    reader.feed(page)
    found = [text for text in reader.found if not BOTH.search(text)]
    return [text for text in found if SENTENCE.search(re.sub(data, "", text))]
