"""Hooks of the documentation site (mkdocs.yml): pages from the repository's root, and links that leave `docs/`.

CONTRIBUTING.md and CHANGELOG.md become pages of the site. A link to any other file outside `docs/` works where the
repository is browsed; on the site it becomes a link below `repo_url`, or plain text while mkdocs.yml names none.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}  # file at the root → page of the site
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are files at the repository's root."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where their files are on the site."""
    own = page.file.src_uri
    at_root = own in PAGES.values()
    folder = "" if at_root else posixpath.dirname(posixpath.join("docs", own))

    def moved(link: re.Match[str]) -> str:
        text, anchor = link["text"], link["anchor"] or ""
        target = posixpath.normpath(posixpath.join(folder, link["target"]))
        if target in PAGES:
            place = PAGES[target]
        elif target.startswith("docs/") and (ROOT / target).is_file():
            place = target.removeprefix("docs/")
        elif target.startswith("docs/") and not (ROOT / target).exists():
            return link[0]  # a wrong link, which mkdocs reports
        else:
            return f"[{text}]({config.repo_url}/blob/main/{target})" if config.repo_url else text
        return f"[{text}]({posixpath.relpath(place, posixpath.dirname(own) or '.')}{anchor})"

    return LINK.sub(moved, markdown)
