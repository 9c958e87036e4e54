"""What `make docs` does beside mkdocs: README and CONTRIBUTING become pages of the site, as they stand."""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files: Files, config: Any) -> Files:
    """Adds the two, with links as they are from the folder docs."""
    for name, page in PAGES.items():
        text = re.sub(r"(\]\(|src=\")docs/", r"\1", (ROOT / name).read_text())
        for other, target in PAGES.items():
            text = text.replace(f"]({other}", f"]({target}")
        files.append(File.generated(config, page, content=steps(text)))
    return files


def steps(text: str) -> str:
    """The flow chart as a list of its boxes: to draw it, a browser would have to fetch a program from elsewhere."""
    return re.sub(r"^```mermaid$.*?^```$", lambda chart: listed(chart[0]), text, flags=re.M | re.S)


def listed(chart: str) -> str:
    """The boxes in their order, and each arrow that goes back with what stands on it."""
    boxes = dict(re.findall(r"(\w+)\[\"(.*?)\"\]", chart))
    back = {start: (note, end) for start, note, end in re.findall(r"(\w+) -- \"(.*?)\" --> (\w+)", chart)}
    lines = [
        f"{number}. {text}" + (f" ({back[box][0]}: back to *{back[box][1]}*)" if box in back else "")
        for number, (box, text) in enumerate(boxes.items(), 1)
    ]
    return "\n".join(lines)


# What a browser loads by itself from elsewhere; a link that a reader may follow is none of it.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|link(?! rel=\"?canonical))\b[^>]*(?:src|href)=\"?(?:https?:)?//[^\s>]*"
)


def on_post_build(config: Any) -> None:
    """Raises if a page would ask the network for anything when it is viewed."""
    for page in sorted(Path(config["site_dir"]).rglob("*.html")):
        if found := LOADED.search(page.read_text()):
            raise PluginError(f"{page} loads from elsewhere: {found[0]}")
