"""Two gateways that issue tokens together: sessions, attempts and users in one Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.credentials.users.user_file import User
from gateway.issuer.stored_users import StoredUsers
from gateway.store.stores import parse
from tests.flow.test_proxy import upstreams
from tests.flow.test_tokens import CHEAP, GATEWAY, KEYS, PIPELINE, Browser
from tests.redis import RedisServer, redis  # noqa: F401
from tests.until import until


def shared(url: str) -> str:
    return f'[store]\nurl = "{url}"\ndeadline = "1s"\n' + GATEWAY.replace('"users.toml"', '"redis"')


async def two(
    start: Any, connect: Any, origin: Any, directory: Path, url: str, more: str = ""
) -> list[Browser]:
    (directory / "signing.pem").write_text(KEYS["ES256"])
    gateways = [await start(PIPELINE, upstreams(origin), shared(url) + more) for _ in range(2)]
    for gateway in gateways:
        [sessions] = [
            kept for kept in gateway.runtime.registry if type(kept).__name__ == "SharedSessions"
        ]
        feed = sessions._feed
        await until(lambda feed=feed: feed.subscribed and feed.version is not None)
    return [Browser(await connect(gateway)) for gateway in gateways]


async def answers(browser: Browser, token: str, status: int) -> None:
    async def answered() -> bool:
        return (await browser.get("/x", token))[0] == status

    await until(answered)


async def test_one_session_on_two_gateways(
    start,
    connect,
    origin,
    tmp_path: Path,
    redis: RedisServer,  # noqa: F811
):
    users = StoredUsers(parse(redis.url))
    users.add(User("alice", CHEAP.hash("old password"), "acme"))
    one, two_ = await two(start, connect, origin, tmp_path, redis.url)
    assert (await one.login("carol", "password of carol"))[0] == 401
    users.add(User("carol", CHEAP.hash("password of carol")))  # live, without a reload
    assert (await one.login("carol", "password of carol"))[0] == 200

    _, first = await one.login()
    for browser in (one, two_):
        assert (await browser.get("/x", first["access_token"]))[0] == 200
    message, second = await two_.post("/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert message.status == 200
    assert (await one.get("/auth/profile", second["access_token"]))[1]["sessions"] == 1
    # A used token shown to the other gateway ends the session on both.
    assert (await one.post("/auth/refresh", {"refresh_token": first["refresh_token"]}))[
        0
    ].status == 401
    assert (await one.get("/x", second["access_token"]))[0] == 401
    await answers(two_, second["access_token"], 401)

    _, mine = await one.login()
    _, other = await two_.login()
    change = {"old_password": "old password", "new_password": "new password"}
    assert (await one.post("/auth/change-password", change, mine["access_token"]))[0].status == 204
    await answers(two_, other["access_token"], 401)
    await answers(one, other["access_token"], 401)
    assert (await two_.post("/auth/refresh", {"refresh_token": mine["refresh_token"]}))[
        0
    ].status == 200
    assert (await two_.login("alice", "new password"))[0] == 200
    assert users.load()["alice"].changed

    assert (await two_.post("/auth/logout", None, mine["access_token"]))[0].status == 204
    assert (await two_.get("/x", mine["access_token"]))[0] == 401
    await answers(one, mine["access_token"], 401)


async def test_attempts_count_together(start, connect, origin, tmp_path: Path, redis: RedisServer):  # noqa: F811
    StoredUsers(parse(redis.url)).add(User("alice", CHEAP.hash("old password")))
    browsers = await two(
        start,
        connect,
        origin,
        tmp_path,
        redis.url,
        'attempts = { account = 2, delay = "10m", max_delay = "10m" }',
    )
    statuses = [(await browser.login("alice", "wrong password"))[0] for browser in browsers]
    assert statuses == [401, 401]
    assert [(await browser.login())[0] for browser in browsers] == [429, 429]


async def test_while_the_store_is_away(start, connect, origin, tmp_path: Path, redis: RedisServer):  # noqa: F811
    StoredUsers(parse(redis.url)).add(User("alice", CHEAP.hash("old password")))
    browser, _ = await two(start, connect, origin, tmp_path, redis.url)
    _, issued = await browser.login()
    redis.kill()
    message, said = await browser.post(
        "/auth/login", {"username": "alice", "password": "old password"}
    )
    assert (message.status, said["code"]) == (503, "SVC_001") and message.fields[
        "retry-after"
    ] == "1"
    assert (await browser.get("/x", issued["access_token"]))[0] == 200


async def test_a_gateway_that_starts_while_the_store_is_away(
    start,
    connect,
    origin,
    tmp_path: Path,
    redis: RedisServer,  # noqa: F811
):
    """Nobody knows then who has logged out, so nobody is let in, and nobody is told that their
    token is bad."""
    StoredUsers(parse(redis.url)).add(User("alice", CHEAP.hash("old password")))
    browser, _ = await two(start, connect, origin, tmp_path, redis.url)
    _, issued = await browser.login()
    redis.kill()
    late = Browser(await connect(await start(PIPELINE, upstreams(origin), shared(redis.url))))
    status, said = await late.get("/x", issued["access_token"])
    assert (status, said["code"]) == (503, "SVC_001")
    redis.start()
    await answers(late, issued["access_token"], 200)
