"""The page: the files that `web/` is built to, and nothing else. What it shows it asks of the API as anybody does."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import FileResponse

from api.access import PUBLIC

FOLDER = Path(__file__).parent / "static"
FOR_EVER = "public, max-age=31536000, immutable"
"""For files whose name changes with their content."""

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

router = APIRouter(include_in_schema=False, dependencies=[PUBLIC])


@cache
def _assets() -> dict[str, Path]:
    """All files of the page by name: a name that is not among them leads nowhere, whatever it spells."""
    return {path.name: path for path in (FOLDER / "assets").iterdir() if path.suffix in _TYPES}


@router.get("/")
async def page() -> FileResponse:
    """The page. It is asked for anew each time, so that an upgrade is seen at once."""
    return FileResponse(FOLDER / "index.html", media_type="text/html", headers={"Cache-Control": "no-cache"})


@router.get("/favicon.svg")
async def sign() -> FileResponse:
    """The page's sign."""
    return FileResponse(FOLDER / "favicon.svg", media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


@router.get("/assets/{name}")
async def asset(name: str) -> Response:
    """A script or style of the page."""
    path = _assets().get(name)
    if path is None:
        raise HTTPException(404)
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"Cache-Control": FOR_EVER})
