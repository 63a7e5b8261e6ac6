"""Who may play: tokens, names of the server, and pages of other sites."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from helpers_player import PATIENCE, Player
from jinn.errors import JinnError
from jinn.player.api import create_app
from jinn.player.server import running
from jinn.web.auth import Auth
from jinn.world.world import World

pytest_plugins = ["helpers_player"]


def refused(address: str, **options: object) -> str:
    """The sentence with which a WebSocket is refused."""
    with connect(address.replace("http", "ws") + "/ws", **options) as socket:  # type: ignore[arg-type]
        message = json.loads(socket.recv(timeout=PATIENCE))
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=PATIENCE)
        assert (message["type"], socket.close_code) == ("error", 1013)  # the page tries again later
    sentence: str = message["message"]
    return sentence


def test_a_token_is_required(world: World) -> None:
    with running(create_app(world, token="open sesame")) as address:
        for url in ("/", "/api/world", "/static/play.js", "/api/world?token=open"):
            answer = httpx.get(address + url)
            assert answer.status_code == 403
            assert "token" in answer.text
        assert "open the address that jinn printed" in refused(address)
        name = f"jinn_token_{urlsplit(address).port}"
        assert "open the address" in refused(address, additional_headers={"Cookie": f"{name}=an%20earlier"})
        with httpx.Client() as browser:
            assert browser.get(f"{address}/?token=open sesame").status_code == 200
            assert browser.get(f"{address}/static/play.js").status_code == 200  # authorised by its cookie
        bearer = {"Authorization": "Bearer open sesame"}
        assert httpx.get(f"{address}/api/world", headers=bearer).status_code == 200
        with Player(address, token="open sesame") as player:
            player.rollout([0])


@pytest.mark.parametrize("token", ["", " "])
def test_an_empty_token_is_a_mistake(world: World, token: str) -> None:
    with pytest.raises(JinnError, match="token is empty"):
        create_app(world, token=token)


@pytest.mark.parametrize("name", ["", "*", "https://play.example.com", "a b", "play.example.com;"])
def test_allowed_hosts_are_names(world: World, name: str) -> None:
    with pytest.raises(JinnError, match="--allow-host must be a name"):
        create_app(world, allow_hosts=[name])


def guarded(token: str | None = None, *allow_hosts: str) -> Starlette:
    async def get(request: object) -> PlainTextResponse:
        return PlainTextResponse("in")

    world = Mount("/world", PlainTextResponse("a page whose cookie is for the other worlds too"))
    route = Route("/{path:path}", get, methods=["GET", "POST"])
    return Starlette(
        routes=[world, route], middleware=[Middleware(Auth, token=token, allow_hosts=allow_hosts)]
    )


def test_servers_on_one_host_have_cookies_of_their_own() -> None:
    with running(guarded("one")) as one, running(guarded("two")) as two, httpx.Client() as browser:
        for address, token in ((one, "one"), (two, "two")):
            assert browser.get(f"{address}/?token={token}").status_code == 200
        assert {browser.get(address).status_code for address in (one, two)} == {200}


def test_the_cookie_fits_the_place_of_the_server() -> None:
    app = Starlette(routes=[Mount("/games", guarded("one"))])
    for address, secure in (("http://localhost:80", False), ("https://localhost:80", True)):
        cookie = TestClient(app, base_url=address).get("/games/world/?token=one").headers["set-cookie"]
        assert "Path=/games/;" in cookie
        assert ("; Secure" in cookie) is secure


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("elsewhere.example", "--allow-host elsewhere.example;"),
        ("elsewhere.example:8080", "--allow-host elsewhere.example;"),
        ("192.0.2.7:7860", "--token"),
        ("[::1", "names no host"),
        ("localhost:x", "names no host"),
        ("a@localhost", "names no host"),
        ("", "names no host"),
    ],
)
def test_the_server_has_only_its_own_names(host: str, why: str) -> None:
    """Otherwise a foreign page whose name resolves to this machine (DNS rebinding) would be trusted."""
    answer = TestClient(guarded()).get("/", headers={"Host": host})
    assert answer.status_code == 403
    assert why in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:7860", "[::1]:7860", "[::1]"])
def test_names_of_this_machine_need_no_token(host: str) -> None:
    assert TestClient(guarded()).get("/", headers={"Host": host}).text == "in"


def test_with_a_token_every_name_will_do() -> None:
    headers = {"Host": "elsewhere.example", "Authorization": "Bearer x"}
    assert TestClient(guarded("x")).get("/", headers=headers).text == "in"


ORIGINS = ["http://elsewhere.example", "http://[", "null", "http://localhost:8888", "x", "http://a@localhost"]
FETCHES = [("cross-site", "no-cors"), ("same-site", "no-cors"), ("cross-site", "cors"), ("x", "x")]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "headers",
    [
        *({"Origin": origin} for origin in ORIGINS),
        *({"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode} for site, mode in FETCHES),
    ],
)
def test_pages_of_other_sites_are_refused(method: str, headers: dict[str, str]) -> None:
    answer = TestClient(guarded(), base_url="http://localhost").request(method, "/", headers=headers)
    assert answer.status_code == 403
    assert "may not use this server" in answer.text
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_pages_of_other_sites_may_only_link_here() -> None:
    client = TestClient(guarded(), base_url="http://localhost")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).text == "in"
    assert client.post("/", headers=link).status_code == 403
    for site in ("none", "same-origin"):
        own = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors", "Origin": "http://localhost"}
        assert client.post("/", headers=own).text == "in"


def test_other_pages_may_not_play(address: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert "may not use this server" in refused(address, origin="http://elsewhere.example")
    [told] = [record.getMessage() for record in caplog.records if record.name == "jinn.web.auth"]
    assert "start jinn with --allow-host elsewhere.example" in told  # once, where the server runs
    assert "may not use this server" in refused(address, origin="http://[")
    with Player(address, origin=address) as player:
        player.rollout([], seed=0)


def test_a_proxy_is_allowed_by_its_name(world: World) -> None:
    with running(create_app(world, allow_hosts=["Play.example.com", "other.example:8443"])) as address:
        # It passes the host of the browser on, or that of the server, or loses the port.
        for origin, host in (
            ("https://play.example.com", "play.example.com"),
            ("https://play.example.com:8443", "play.example.com"),
            ("https://play.example.com", urlsplit(address).netloc),
            ("https://other.example:8443", "other.example:8443"),
        ):
            headers = {"Host": host, "Origin": origin}
            policy = httpx.get(address, headers=headers).headers["content-security-policy"]
            assert "frame-ancestors 'self' other.example:8443 play.example.com:*" in policy
        with Player(address, origin="https://play.example.com") as player:
            player.rollout([], seed=0)
        assert "may not use this server" in refused(address, origin="https://other.example")
        assert httpx.get(address, headers={"Host": "other.example"}).status_code == 403
