"""Who may ask: keys, scopes, expiry, changes while the server runs, and nobody's key in anything that is written."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving.errors import ConfigError
from serving.keys import Key, add, digest, revoke, rotate, write_keys
from tests.guard.conftest import Growth, Guarded
from tests.guard.stub import CHAT, Call, Clock, Engine, chat

pytestmark = pytest.mark.anyio
PATHS = {"inference": ("POST", CHAT), "metrics": ("GET", "/metrics"), "public": ("GET", "/health")}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def key(name: str, **fields: object) -> Key:
    return Key(name, digest(""), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scopes", "kind", "status"),
    [
        (("inference",), "inference", 200),
        (("inference",), "metrics", 403),
        (("inference",), "public", 200),
        (("metrics",), "inference", 403),
        (("metrics",), "metrics", 200),
        (("admin",), "inference", 200),
        (("admin",), "metrics", 200),
        ((), "inference", 403),
        ((), "public", 200),
    ],
)
@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "authorization: bearer {}", "X-Api-Key: {}"])
async def test_scopes(
    guarded: Guarded, keys_file: Path, scopes: tuple[str, ...], kind: str, status: int, header: str
) -> None:
    secret = add(keys_file, key("alice", scopes=scopes))
    name, _, value = header.format(secret).partition(": ")
    method, path = PATHS[kind]
    call = await Call(guarded(keys_file=str(keys_file)), method, path, chat(), headers={name: value}).start().done()
    assert call.status == status
    assert secret.encode() not in call.content


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer xy-wrong"}, "invalid_api_key"),
        ({"authorization": "Bearer "}, "missing_api_key"),
        ({"authorization": "Basic {}"}, "missing_api_key"),
        ({"authorization": "{}"}, "missing_api_key"),
        ({"x-api-key": "{} x"}, "invalid_api_key"),
        ({"x-api-key": "\xff\xfe"}, "invalid_api_key"),
        ({"x-api-key": "x" * 100_000}, "invalid_api_key"),
        ({"cookie": "api_key={}"}, "missing_api_key"),
    ],
)
async def test_without_a_good_key_there_is_no_answer(
    guarded: Guarded, engine: Engine, keys_file: Path, headers: dict[str, str], code: str
) -> None:
    secret = add(keys_file, key("alice"))
    sent = {name: value.format(secret) for name, value in headers.items()}
    call = await Call(guarded(keys_file=str(keys_file)), body=chat(), headers=sent).start().done()
    assert (call.status, call.error["code"], call.answer["www-authenticate"]) == (401, code, "Bearer")
    assert secret not in call.error["message"]
    assert engine.scopes == []


async def test_a_key_in_the_query_does_not_count(guarded: Guarded, keys_file: Path) -> None:
    secret = add(keys_file, key("alice"))
    call = await Call(guarded(keys_file=str(keys_file)), "GET", f"/v1/models?api_key={secret}").start().done()
    assert call.status == 401


async def test_the_key_goes_no_further_than_the_guard(guarded: Guarded, engine: Engine, keys_file: Path) -> None:
    secret = add(keys_file, key("alice"))
    headers = {"authorization": f"Bearer {secret}", "x-api-key": secret, "content-type": "application/json"}
    await Call(guarded(keys_file=str(keys_file)), body=chat(), headers=headers).start().done()
    seen = dict(engine.scopes[0]["headers"])
    assert seen[b"content-type"] == b"application/json"
    assert not {b"authorization", b"x-api-key"} & seen.keys()


async def test_a_key_expires(guarded: Guarded, keys_file: Path, clock: Clock) -> None:
    expires = datetime.fromtimestamp(clock.now + 10, UTC).isoformat()
    secret = add(keys_file, key("alice", expires=expires))
    guard = guarded(keys_file=str(keys_file))

    async def ask() -> Call:
        return await Call(guard, body=chat(), headers={"x-api-key": secret}).start().done()

    assert (await ask()).status == 200
    clock.now += 10
    late = await ask()
    assert (late.status, late.error["code"]) == (401, "expired_api_key")


async def test_changes_take_effect_within_two_seconds(guarded: Guarded, keys_file: Path, clock: Clock) -> None:
    old = add(keys_file, key("alice"))
    guard = guarded(keys_file=str(keys_file))

    async def status(secret: str) -> int:
        return (await Call(guard, body=chat(), headers={"x-api-key": secret}).start().done()).status

    assert await status(old) == 200
    new, other = rotate(keys_file, "alice"), add(keys_file, key("bob"))
    clock.now += 2
    assert [await status(secret) for secret in (old, new, other)] == [401, 200, 200]
    revoke(keys_file, "alice")
    clock.now += 2
    assert [await status(secret) for secret in (new, other)] == [401, 200]


BROKEN = ["", "{", "[]", "\x00", '{"version": 2, "keys": []}', '{"version": 1, "keys": [{"name": "x"}]}', None]


@pytest.mark.parametrize("text", BROKEN)
async def test_a_broken_file_keeps_the_last_good_keys_and_says_so(
    guarded: Guarded,
    keys_file: Path,
    clock: Clock,
    counted: Growth,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
) -> None:
    secret = add(keys_file, key("alice"))
    good = keys_file.read_text()
    guard = guarded(keys_file=str(keys_file))
    counted("xuanyuan_keys_file_broken")

    async def status() -> int:
        clock.now += 2
        return (await Call(guard, body=chat(), headers={"x-api-key": secret}).start().done()).status

    keys_file.unlink() if text is None else keys_file.write_text(text)
    assert [await status(), await status()] == [200, 200]
    said = capsys.readouterr().err
    assert said.count("The keys of before stay in force") == 1
    assert str(keys_file) in said
    assert counted("xuanyuan_keys_file_broken") == 1
    keys_file.write_text(good)
    assert await status() == 200
    assert counted("xuanyuan_keys_file_broken") == 0


@pytest.mark.parametrize("text", BROKEN)
async def test_a_broken_file_at_start_is_refused(guarded: Guarded, keys_file: Path, text: str | None) -> None:
    if text is not None:
        keys_file.write_text(text)
    with pytest.raises(ConfigError, match=str(keys_file)):
        guarded(keys_file=str(keys_file))


@pytest.mark.parametrize(
    ("client", "host", "allowed"),
    [
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "[::1]:8000", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.8.8.8", "localhost", True),
        ("192.0.2.1", "localhost:8000", False),
        ("127.0.0.1", "evil.example:8000", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "192.0.2.1:8000", False),
        ("::ffff:192.0.2.1", "localhost", False),
        ("unix", "localhost", False),
    ],
)
async def test_without_keys_only_this_machine_is_served(
    guarded: Guarded, client: str, host: str, allowed: bool
) -> None:
    call = await Call(guarded(), body=chat(), client=client, headers={"host": host}).start().done()
    assert call.status == (200 if allowed else 401)
    insist = guarded(allow_anonymous=True)
    assert (await Call(insist, body=chat(), client=client, headers={"host": host}).start().done()).status == 200


async def test_allowing_anonymous_clients_does_not_open_a_server_that_has_keys(
    guarded: Guarded, keys_file: Path
) -> None:
    write_keys(keys_file, [])
    guard = guarded(keys_file=str(keys_file), allow_anonymous=True)
    assert (await Call(guard, body=chat()).start().done()).status == 401


async def test_no_key_in_logs_or_metrics(guarded: Guarded, keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prometheus_client import generate_latest

    secret = add(keys_file, key("alice"))
    for log_format in ("json", "console"):
        guard = guarded(keys_file=str(keys_file), log_format=log_format)
        for sent in (secret, secret + "x"):
            await Call(guard, body=chat(user=secret), headers={"authorization": f"Bearer {sent}"}).start().done()
    said = capsys.readouterr()
    assert '"key":"alice"' in said.err and "key=alice" in said.err
    for text in (said.err, said.out, generate_latest().decode(), keys_file.read_text()):
        assert secret not in text
    assert json.loads(keys_file.read_text())["keys"][0]["hash"] == digest(secret)
