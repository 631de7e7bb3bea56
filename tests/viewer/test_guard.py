"""Who gets nothing from the viewer: each refusal, by HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from batchrun.viewer.guard import SCRIPT_HEADER
from tests.html.made import SECRET_PROMPT, make_job
from tests.viewer.serving import Answer, Served, serving

PAGES = ("/", "/rows", "/rows.json", "/rows.jsonl", "/rows/0", "/state.json", "/view.js", "/anything")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(make_job(tmp_path_factory.mktemp("job"), 20)) as viewer:
        yield viewer


def assert_refused(answer: Answer, status: int, words: str) -> None:
    assert answer.status == status, answer.text
    assert words in answer.text
    assert "row-0" not in answer.text
    assert SECRET_PROMPT not in answer.text


def test_the_token_becomes_a_cookie_and_leaves_the_address(served: Served) -> None:
    answer = served.ask(f"/?token={served.guard.token}", Cookie="-")
    assert (answer.status, answer.headers["Location"]) == (303, "/rows")
    name, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert name == f"{served.guard.cookie}={served.guard.token}"
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}


def test_an_address_for_a_browser_works_once(served: Served) -> None:
    """How a program is started may be seen by other users of the machine."""
    path = served.guard.address_once().removeprefix(served.guard.origin)
    assert served.guard.token not in path
    assert served.ask(path, Cookie="-").status == 303
    assert_refused(served.ask(path, Cookie="-"), 403, "no longer")


@pytest.mark.parametrize("token", ["", "x", "%00", "%ff%fe", "é"])
def test_a_wrong_token_gets_no_cookie(served: Served, token: str) -> None:
    answer = served.ask("/?token=" + token.encode("ascii", "xmlcharrefreplace").decode(), Cookie="-")
    assert_refused(answer, 403, "This address is not")
    assert answer.headers["Set-Cookie"] is None


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("cookie", ["-", "batchrun=1", "{name}=", "{name}=wrong"])
def test_without_the_cookie_nothing_is_shown(served: Served, path: str, cookie: str) -> None:
    answer = served.ask(path, Cookie=cookie.format(name=served.guard.cookie))
    assert_refused(answer, 403, "Open the address that batchrun view printed")


@pytest.mark.parametrize("path", [*PAGES, "/?token={token}"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_name_that_was_made_to_lead_here_gets_nothing(served: Served, path: str, host: str) -> None:
    """DNS rebinding: a page of evil.example, whose name leads to 127.0.0.1 now, is of one origin with this server."""
    path = path.format(token=served.guard.token)
    answer = served.ask(path, Host=host.format(port=served.guard.port))
    assert_refused(answer, 421, "127.0.0.1 alone")
    assert answer.headers["Set-Cookie"] is None


def test_it_listens_on_this_machine_alone(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.guard.port), timeout=5):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", served.guard.port), timeout=5)


@pytest.mark.parametrize(
    "path",
    [
        *("/secret.txt", "/../secret.txt", "/rows/../secret.txt", "/rows/%2e%2e%2fsecret.txt", "//secret.txt"),
        *("{folder}/secret.txt", "/rows/{folder}/secret.txt", "/review/../secret.txt", "/results.jsonl"),
        *("/rows/0/text.json?part=../secret.txt&from=0", "/rows/0/text.json?part={folder}/secret.txt&from=0"),
    ],
)
def test_no_file_is_read_that_was_not_given(served: Served, path: str) -> None:
    folder = served.index.results.parent
    (folder / "secret.txt").write_text("a secret that was not given")
    answer = served.ask(path.format(folder=folder))
    assert answer.status == 404
    assert "a secret" not in answer.text


def test_another_host_in_the_path_gets_nothing(served: Served) -> None:
    assert_refused(served.ask("http://evil.example/rows"), 421, "127.0.0.1 alone")


def test_what_is_no_http_is_refused_without_a_word_on_the_terminal(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", served.guard.port), timeout=20) as connection:
        connection.sendall(b"GET /rows HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert b" 400 " in connection.recv(4096)
    assert not caplog.records


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost:{port}"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_another_page_gets_nothing(served: Served, origin: str, method: str) -> None:
    answer = served.ask("/rows.json", method, Origin=origin.format(port=served.guard.port))
    assert_refused(answer, 403, "Another page")
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_server_of_this_machine_gets_nothing(served: Served, site: str) -> None:
    """To a browser, 127.0.0.1 is one site on all its ports, and sends the cookie."""
    assert_refused(served.ask("/rows.json", Sec_Fetch_Site=site), 403, "Another page")


OWN = {"Origin": "{origin}", SCRIPT_HEADER.replace("-", "_"): "{script}", "Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"Origin": "-"}, 403, "Another page"),
        ({"Origin": "https://evil.example"}, 403, "Another page"),
        ({"Sec_Fetch_Site": "cross-site"}, 403, "Another page"),
        ({"X_Batchrun_Token": "-"}, 403, SCRIPT_HEADER),
        ({"X_Batchrun_Token": "wrong"}, 403, SCRIPT_HEADER),
        ({"X_Batchrun_Token": "{token}"}, 403, SCRIPT_HEADER),
        ({"Content_Type": "-"}, 415, "application/json"),
        ({"Content_Type": "text/plain"}, 415, "application/json"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ({"Cookie": "-"}, 403, "Open the address"),
    ],
)
def test_a_change_that_is_not_of_this_page_is_refused(
    served: Served, changed: dict[str, str], status: int, words: str
) -> None:
    known = {"origin": served.guard.origin, "script": served.guard.script_token, "token": served.guard.token}
    headers = {name: value.format(**known) for name, value in (OWN | changed).items()}
    for path in ("/rows", "/run", "/review/0"):
        assert_refused(served.ask(path, "POST", b"{}", **headers), status, words)


def test_every_answer_has_a_policy_and_may_not_be_framed_or_kept(served: Served) -> None:
    answers = [served.ask(path) for path in PAGES]
    answers += [served.ask("/rows", Cookie="-"), served.ask("/rows", Host="evil.example")]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert (policy["default-src"], policy["script-src"], policy["frame-ancestors"]) == (
            "'none'",
            "'self'",
            "'none'",
        )
        assert policy["img-src"] == "data:"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_the_token_of_the_address_stands_on_no_page(served: Served) -> None:
    for path in PAGES:
        assert served.guard.token not in served.ask(path).text


def test_secrets_are_not_in_the_words_for_the_guard(served: Served) -> None:
    shown = repr(served.guard)
    assert served.guard.token not in shown
    assert served.guard.script_token not in shown
