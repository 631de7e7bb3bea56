"""A page as a test reads it: its elements, its attributes, its text."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """A page, parsed. `text` is all its text, `elements` each element with its attributes, `style` the style."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.style = "", ""
        self._in_style = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag == "style"
        self.text += " " if tag in ("td", "th", "p", "text", "h2", "h3", "li") else ""

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.style += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def meta(self, name: str) -> str:
        (found,) = [one for one in self.all("meta") if name in (one.get("name"), one.get("http-equiv"))]
        return found["content"] or ""
