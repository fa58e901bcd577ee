"""`xuanyuan chat` on a real pseudo-terminal: several turns, commands, Ctrl-C and Ctrl-D, editing, colour."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chat.program import terminal
from tests.chat.pty_terminal import CTRL_C, CTRL_D, UP
from tests.chat.scripted_server import Reply, ScriptedServer, answer, event, refuse


def roles_and_texts(request: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request["messages"]]


def test_several_turns_clear_and_exit(server: ScriptedServer) -> None:
    server.script(answer(" 我是", "轩辕 "), answer("second"), answer("third"))
    with terminal(server.url) as tty:
        tty.expect("tiny at http://127.0.0.1:")
        tty.expect("context 2,048 tokens")
        tty.expect("> ")
        tty.type("  你是谁  \r")
        tty.expect("我是轩辕\r\n[first token 0.")
        tty.expect("tokens/s, 2 tokens]")
        tty.expect("> ")
        tty.type("再说一遍\r")
        tty.expect("second")
        tty.expect("> ")
        tty.type(" CLEAR!! \r")
        tty.expect("clear...")
        tty.expect("> ")
        tty.type("anew\r")
        tty.expect("third")
        tty.expect("> ")
        tty.type("EXIT!!\r")
        tty.expect("exit....")
        assert tty.end() == 0
    assert [roles_and_texts(request) for request in server.requests] == [
        [("user", "你是谁")],
        [("user", "你是谁"), ("assistant", "我是轩辕"), ("user", "再说一遍")],
        [("user", "anew")],
    ]


def test_ctrl_c_stops_the_answer_only_and_ctrl_d_leaves(server: ScriptedServer) -> None:
    server.script(Reply([event({"content": "half an answer"}), *[b": ping\n\n"] * 400], pause=0.05), answer("whole"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("long\r")
        tty.expect("half an answer")
        tty.type(CTRL_C)
        tty.expect("stopped by Ctrl-C]")
        tty.expect("> ")
        tty.type("half a line")
        tty.expect("half a line")
        # Python's input() misses a signal that comes just before it starts to wait for the next key.
        time.sleep(0.3)
        tty.type(CTRL_C)
        tty.expect("EXIT!! or Ctrl-D leaves")
        tty.expect("> ")
        tty.type("next\r")
        tty.expect("whole")
        tty.expect("> ")
        tty.type(CTRL_D)
        assert tty.end() == 0
    assert server.broken_off.wait(5)
    assert roles_and_texts(server.requests[1]) == [
        ("user", "long"),
        ("assistant", "half an answer"),
        ("user", "next"),
    ]


def test_ctrl_c_before_the_first_token_takes_the_question_back(server: ScriptedServer) -> None:
    server.script(Reply([event({"role": "assistant"}), *[b": ping\n\n"] * 400], pause=0.05), answer("whole"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("slow\r")
        while not server.requests:
            time.sleep(0.01)
        tty.type(CTRL_C)
        tty.expect("[stopped by Ctrl-C]")
        tty.expect("> ")
        tty.type("next\r")
        tty.expect("whole")
    assert roles_and_texts(server.requests[1]) == [("user", "next")]


def test_an_error_ends_the_turn_and_not_the_chat(server: ScriptedServer) -> None:
    cut = Reply([event({"content": "par"})], cut=True)
    server.script(refuse(503, {"error": {"message": "busy"}}, Retry_After="2"), cut, answer("fine"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("one\r")
        tty.expect("the server refused (503): busy; try again in 2 s")
        tty.expect("> ")
        tty.type("two\r")
        tty.expect("par")
        tty.expect("the connection was cut")
        tty.expect("> ")
        tty.type("three\r")
        tty.expect("fine")
        tty.expect("> ")
        tty.type("EXIT!!\r")
        assert tty.end() == 0
    # What was refused is not in the history, what came of the cut answer is.
    assert roles_and_texts(server.requests[2]) == [("user", "two"), ("assistant", "par"), ("user", "three")]


def test_system_save_help_and_lines_that_only_look_like_commands(server: ScriptedServer, tmp_path: Path) -> None:
    server.script(answer("好"), answer("b"), answer("c"))
    saved = tmp_path / "talk.json"
    with terminal(server.url, "--system", "old") as tty:
        for typed, shown in [
            ("/help", "EXIT!!         leave"),
            ("/hepl", 'no command /hepl (did you mean "/help"?)'),
            ("/system  用中文 ", "system message set"),
            ("/save", "/save needs the name of a file"),
            ("", ""),
            ("/etc/hosts 是什么", "好"),
            (f"/save {saved}", f"saved 3 messages to {saved}"),
            (f"/save {saved}", f"{saved} exists: /save! {saved} overwrites it"),
            ("/save /nonexistent/x", "cannot write /nonexistent/x: No such file or directory"),
            (" /help", "b\r\n["),
            (f"/save! {saved}", f"saved 5 messages to {saved}"),
            ("/system", "no system message"),
            ("last", "c\r\n["),
        ]:
            tty.expect("> ")
            tty.type(typed + "\r")
            tty.expect(shown)
        tty.expect("> ")
        tty.type("EXIT!!\r")
        assert tty.end() == 0
    messages = json.loads(saved.read_text(encoding="utf-8"))
    assert messages == [
        {"role": "system", "content": "用中文"},
        {"role": "user", "content": "/etc/hosts 是什么"},
        {"role": "assistant", "content": "好"},
        {"role": "user", "content": "/help"},
        {"role": "assistant", "content": "b"},
    ]
    assert server.requests[2]["messages"] == [*messages[1:], {"role": "user", "content": "last"}]


def test_lines_are_edited_and_recalled(server: ScriptedServer) -> None:
    server.script(answer("a"), answer("b"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("轩辕大\x7f\x7f辕！\r")
        tty.expect("a\r\n[")
        tty.expect("> ")
        tty.type(UP + "？\r")
        tty.expect("b\r\n[")
        tty.expect("> ")
        tty.type(CTRL_D)
        assert tty.end() == 0
    assert [request["messages"][-1]["content"] for request in server.requests] == ["轩辕！", "轩辕！？"]


def test_a_model_cannot_drive_the_terminal(server: ScriptedServer) -> None:
    server.script(answer("safe\x1b[2J\x07", "\x9b31m end"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("q\r")
        tty.expect("safe␛[2J␇\ufffd31m end")


@pytest.mark.parametrize(("no_color", "coloured"), [("1", False), ("", True)])
def test_no_color(server: ScriptedServer, no_color: str, coloured: bool) -> None:
    with terminal(server.url, NO_COLOR=no_color) as tty:
        banner = tty.expect("leaves.")
        assert ("\x1b[2m" in banner) == coloured
