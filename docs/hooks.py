"""Changes that MkDocs makes to pages of the site."""

from __future__ import annotations

import re
from typing import Any

#: Cross-references of docstrings, such as ``:class:`hrtem.api.Model` ``, whose role has no meaning in Markdown.
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<)")


def on_page_content(html: str, **_: Any) -> str:
    """Leave the roles out."""
    return ROLE.sub("", html)
