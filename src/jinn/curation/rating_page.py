"""The page on which people rate clips: what ``jinn rate`` serves.

``POST /api/next`` with ``{"person", "skipped"}`` answers which clips the person should see, ``POST /api/ratings`` with
``{"person", "clip", "rating"}`` keeps a rating (null: takes it back), and ``/api/clips/NAME.mp4`` is a clip.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jinn.curation.clip import Clip, read_clip, read_clips
from jinn.curation.ratings import Rating, add_rating, agreement, latest, read_ratings, waiting
from jinn.errors import JinnError
from jinn.web.answers import read_body, refusal
from jinn.web.auth import Auth, check_access
from jinn.web.film import encode_film

STATIC = Path(__file__).parent / "static"
MAX_BYTES = 2**16  # of a request: names of some thousand clips
AHEAD = 2  # clips that the page is told of: the one to rate, and one to load meanwhile
# Of the clips that people see: the classifier's rate, and twice the sides of its pictures.
FPS, SIZE_HW = 10.0, (180, 320)
FILMS = 32  # that are kept in memory


class Room:
    """The clips of a folder, and what people said of them.

    Args:
        folder: Of a curation.
        person: Who rates; None: the page asks for a name.

    Raises:
        JinnError: The folder has no clips to rate, or its ratings cannot be read.
    """

    def __init__(self, folder: Path, person: str | None = None) -> None:
        self.folder, self.person = folder, person
        self.clips = clips_to_rate(folder)
        self.ratings = read_ratings(folder)
        if person is not None:
            Rating("", person, None, 0.0)  # a name that is none is refused now
        self.film = lru_cache(FILMS)(self._film)

    def add(self, values: Any) -> None:
        """Keep a rating; `JinnError` if the values of a request are none."""
        clip, person, number = self._clip(values), self._person(values), values.get("rating")
        if number is not None and type(number) is not int:
            raise JinnError("a rating is a whole number")
        rating = Rating(clip, person, number, round(time.time(), 3))
        add_rating(self.folder, rating)
        self.ratings.append(rating)

    def next(self, values: Any) -> dict[str, Any]:
        """What a person should rate next, and how far all are; `JinnError` if the values of a request are none."""
        person, skipped = self._person(values), values.get("skipped") or []
        if not (isinstance(skipped, list) and all(isinstance(clip, str) for clip in skipped)):
            raise JinnError("what was skipped is a list of clips")
        by_clip = latest(self.ratings)
        by_clip = {clip: people for clip, people in by_clip.items() if clip in self.clips}
        left = waiting([clip for clip in self.clips if clip not in skipped], by_clip, person)
        return {
            "clips": left[:AHEAD],
            "left": len(left),
            "yours": sum(person in people for people in by_clip.values()),
            "rated": len(by_clip),
            "total": len(self.clips),
            "people": len({name for people in by_clip.values() for name in people}),
            "shared": sum(len(people) > 1 for people in by_clip.values()),
            "agreement": agreement(by_clip),
        }

    def _film(self, name: str) -> bytes:
        return encode_film(read_clip(self.clips[name], FPS, SIZE_HW), FPS, "mp4")

    def _person(self, values: Any) -> str:
        person = self.person or (values.get("person") if isinstance(values, dict) else None)
        if not isinstance(person, str):
            raise JinnError("say who you are")
        Rating("", person, None, 0.0)
        return person

    def _clip(self, values: Any) -> str:
        clip = values.get("clip") if isinstance(values, dict) else None
        if not isinstance(clip, str) or clip not in self.clips:
            raise JinnError("there is no such clip")
        return clip


def clips_to_rate(folder: Path) -> dict[str, Clip]:
    """The clips of a curation by name, but those that its rules left out; `JinnError` if there are none."""
    clips = [row.clip for row in read_clips(folder) if not row.reason and row.seconds > 0]
    if not clips:
        raise JinnError(f"{folder} has no clips to rate: its rules left all out, or there were no films")
    return {clip.name: clip for clip in clips}


def create_rating_app(room: Room, token: str | None = None, allow_hosts: Sequence[str] = ()) -> Starlette:
    """The web application on which people rate the clips of a folder; see `jinn.web.auth.Auth` for who may."""
    check_access(token, allow_hosts)
    encoding, writing = asyncio.Lock(), asyncio.Lock()

    async def get_page(_: Request) -> Response:
        return FileResponse(STATIC / "rate.html")

    async def get_person(_: Request) -> Response:
        return JSONResponse({"person": room.person})

    async def get_film(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in room.clips:
            return refusal(404, "there is no such clip")
        async with encoding:
            film = await asyncio.to_thread(room.film, name)
        return Response(film, media_type="video/mp4")

    async def post_next(request: Request) -> Response:
        return JSONResponse(room.next(await _values(request)))

    async def post_rating(request: Request) -> Response:
        values = await _values(request)
        async with writing:
            await asyncio.to_thread(room.add, values)
        return JSONResponse({"kept": True})

    routes = [Route("/", get_page), Route("/api/person", get_person),
              Route("/api/clips/{name}.mp4", get_film),
              Route("/api/next", post_next, methods=["POST"]),
              Route("/api/ratings", post_rating, methods=["POST"]),
              Mount("/static", StaticFiles(directory=STATIC))]  # fmt: skip
    auth = Middleware(Auth, token=token, allow_hosts=allow_hosts)
    return Starlette(routes=routes, middleware=[auth], exception_handlers={JinnError: _refused})


async def _values(request: Request) -> Any:
    try:
        return json.loads(await read_body(request, MAX_BYTES))
    except (ValueError, RecursionError):
        raise JinnError("a request is JSON, of no more than 64 kB") from None


async def _refused(_: Request, error: Exception) -> Response:
    return refusal(400, str(error))
