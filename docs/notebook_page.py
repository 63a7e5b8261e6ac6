"""A hook of mkdocs: the tutorial notebook as a page of the site."""

from __future__ import annotations

import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOK = Path(__file__).parent / "tutorial.ipynb"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add ``tutorial.md``: the cells of the notebook as text and code blocks."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    texts = [
        f"```python\n{''.join(cell['source'])}\n```"
        if cell["cell_type"] == "code"
        else "".join(cell["source"])
        for cell in cells
    ]
    files.append(File.generated(config, "tutorial.md", content="\n\n".join(texts) + "\n"))
    return files
