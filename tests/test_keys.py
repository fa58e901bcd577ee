"""The file of hashed keys, and the command that edits it."""

import argparse
import json
import os
import re
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.commands import keys as command
from serving.errors import ConfigError
from serving.keys import Key, add, digest, parse_keys, read_keys, revoke, rotate, write_keys

HASH = digest("secret")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def key(name: str, **fields: object) -> Key:
    return Key(name, HASH, **fields)  # type: ignore[arg-type]


def xuanyuan_keys(*words: str) -> int:
    """Run the command with these words."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_a_key_is_random_and_only_its_hash_is_stored(path: Path) -> None:
    secrets = [add(path, key(f"k{index}")) for index in range(20)]
    assert len(set(secrets)) == 20
    assert all(re.fullmatch(r"xy-[A-Za-z0-9_-]{43}", secret) for secret in secrets)
    text = path.read_text()
    assert not any(secret in text or secret[3:] in text for secret in secrets)
    assert [found.hash for found in read_keys(path)] == [digest(secret) for secret in secrets]


def test_add_rotate_revoke(path: Path) -> None:
    alice = add(
        path, key("alice", scopes=("inference", "metrics"), requests_per_minute=5, expires="2030-01-01T00:00:00+00:00")
    )
    add(path, key("bob"))
    before = {found.name: found for found in read_keys(path)}
    assert before["alice"].hash == digest(alice)
    new = rotate(path, "alice")
    after = {found.name: found for found in read_keys(path)}
    assert after["alice"].hash == digest(new) != digest(alice)
    assert after["alice"].scopes == ("inference", "metrics") and after["alice"].requests_per_minute == 5
    assert after["alice"].expires == "2030-01-01T00:00:00+00:00"
    assert after["bob"] == before["bob"]
    revoke(path, "alice")
    assert [found.name for found in read_keys(path)] == ["bob"]


def test_names_are_unique_and_must_exist(path: Path) -> None:
    add(path, key("alice"))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="key alice exists"):
        add(path, key("alice"))
    for change in (rotate, revoke):
        with pytest.raises(ConfigError, match="no key 'alise' \\(did you mean \"alice\"\\?\\)"):
            change(path, "alise")
    assert path.read_bytes() == before


def test_a_new_file_is_its_owners_alone_and_an_old_one_keeps_its_mode(path: Path) -> None:
    add(path, key("alice"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    add(path, key("bob"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == [path.name]


def test_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    add(link, key("alice"))
    assert link.is_symlink() and [found.name for found in read_keys(path)] == ["alice"]


def test_editors_at_the_same_time_lose_nothing(path: Path) -> None:
    names = [f"k{index}" for index in range(24)]
    threads = [threading.Thread(target=add, args=(path, key(name))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found.name for found in read_keys(path)) == sorted(names)


def test_a_write_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(path, key("alice"))
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        add(path, key("bob"))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


WRONG = [
    ("", "not JSON"),
    ("[]", "expected"),
    ("{}", "expected"),
    ('{"version":1}', "expected"),
    ('{"version":2,"keys":[]}', "expected"),
    ('{"version":1,"keys":{}}', "a list"),
    ('{"version":1,"keys":[1]}', "an object"),
    ('{"version":1,"keys":[],"x":1}', "expected"),
    ("[" * 100_000, "not JSON"),
    ('{"version":1,"keys":[{"name":"a"}]}', "name and hash"),
]
WRONG_KEYS = [
    ({"name": "a b"}, "key name"),
    ({"name": ""}, "key name"),
    ({"name": "-x"}, "key name"),
    ({"name": 1}, "key name"),
    ({"name": "x" * 65}, "key name"),
    ({"name": "a\n"}, "key name"),
    ({"hash": "0"}, "hash"),
    ({"hash": None}, "hash"),
    ({"hash": HASH.upper()}, "hash"),
    ({"scopes": ["inferense"]}, 'did you mean "inference"'),
    ({"scopes": "inference"}, "a list"),
    ({"scopes": [[]]}, "scope"),
    ({"requests_per_minute": -1}, "0 or more"),
    ({"requests_per_minute": True}, "0 or more"),
    ({"tokens_per_minute": "5"}, "0 or more"),
    ({"max_concurrent_requests": 1.5}, "0 or more"),
    ({"expires": "soon"}, "expires"),
    ({"expires": "2030-01-01"}, "expires"),
    ({"expires": 5}, "expires"),
    ({"created": 5}, "created"),
    ({"request_per_minute": 5}, 'did you mean "requests_per_minute"'),
]


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_files_that_are_none(path: Path, text: str, expected: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(expected)) as raised:
        read_keys(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(("fields", "expected"), WRONG_KEYS, ids=[str(fields) for fields, _ in WRONG_KEYS])
def test_keys_that_are_none(fields: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        parse_keys(json.dumps({"version": 1, "keys": [{"name": "a", "hash": HASH, **fields}]}))


def test_two_keys_of_one_name_or_hash() -> None:
    for second in ({"name": "a", "hash": digest("other")}, {"name": "b", "hash": HASH}):
        with pytest.raises(ConfigError, match="two keys have the same"):
            parse_keys(json.dumps({"version": 1, "keys": [{"name": "a", "hash": HASH}, second]}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["inference", HASH]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
ENTRY = st.fixed_dictionaries({}, optional={name: JSON for name in Key.__dataclass_fields__}) | JSON


@given(st.text() | st.builds(lambda keys: json.dumps({"version": 1, "keys": keys}), st.lists(ENTRY, max_size=3)))
def test_garbage_is_refused_as_such(text: str) -> None:
    try:
        assert all(isinstance(found, Key) for found in parse_keys(text))
    except ConfigError as error:
        assert str(error)


def test_what_is_written_is_read_back(path: Path) -> None:
    keys = (
        key("a"),
        Key("b", digest("b"), ("admin",), "2026-01-01T00:00:00+00:00", "2030-01-01T00:00:00+00:00", 1, 2, 3),
    )
    write_keys(path, keys)
    assert read_keys(path) == keys


def test_the_command_shows_a_new_key_alone_on_its_last_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--scope", "metrics", "--scope", "metrics", "--tokens-per-minute", "9", "--expires-days", "30"]
    assert xuanyuan_keys("add", "alice", "--keys-file", str(path), *words) == 0
    said = capsys.readouterr()
    secret = said.out.splitlines()[-1]
    assert said.out == secret + "\n" and secret not in said.err
    [found] = read_keys(path)
    assert (found.hash, found.scopes, found.tokens_per_minute) == (digest(secret), ("metrics",), 9)
    assert found.expires is not None and found.created < found.expires

    assert xuanyuan_keys("rotate", "alice", "--keys-file", str(path)) == 0
    assert digest(capsys.readouterr().out.strip()) == read_keys(path)[0].hash != digest(secret)


def test_the_command_lists_everything_but_keys(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = add(path, key("alice", scopes=("inference", "metrics"), max_concurrent_requests=4))
    add(path, key("old", expires="2020-01-01T00:00:00+00:00"))
    assert xuanyuan_keys("list", "--keys-file", str(path)) == 0
    alice, old = capsys.readouterr().out.splitlines()
    assert alice.startswith("alice  inference,metrics  created 20") and alice.endswith("max_concurrent_requests=4")
    assert "EXPIRED 2020-01-01" in old
    assert secret not in alice and digest(secret) not in alice
    assert xuanyuan_keys("revoke", "alice", "--keys-file", str(path)) == 0
    assert [found.name for found in read_keys(path)] == ["old"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["add", "a b"], "key name"),
        (["add", "a", "--expires-days", "0"], "--expires-days=0"),
        (["add", "a", "--requests-per-minute", "-1"], "0 or more"),
        (["revoke", "a"], "no key 'a'"),
        (["list"], "No such file"),
    ],
)
def test_what_the_command_refuses(path: Path, words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        xuanyuan_keys(*words, "--keys-file", str(path))
    assert not path.exists()


def test_the_file_comes_from_the_environment_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(command.FILE_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="which keys file"):
        xuanyuan_keys("add", "alice")
    monkeypatch.setenv(command.FILE_VARIABLE, str(path))
    assert xuanyuan_keys("add", "alice") == 0
    assert path.exists()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing/keys: No such file"):
        add(tmp_path / "missing" / "keys", key("alice"))
