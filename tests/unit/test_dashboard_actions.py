"""Actions of the dashboard: who may, what they do, what they leave, and what other sites cannot make a browser do."""

from __future__ import annotations

import html
import re

import pytest
from starlette.requests import Request

from headrace.dashboard import Action, Dashboard, Doing
from tests.unit.dashboards import ORIGIN, ada, charge, client_of, make_app, position_of, post


async def form_of(text: str) -> dict[str, str]:
    """The hidden fields and the text of the form of an edit."""
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
    (body,) = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", text, re.DOTALL)
    return {
        **{name: html.unescape(value) for name, value in fields.items()},
        "body": html.unescape(body),
    }


async def test_a_redrive_runs_the_message_again_and_is_recorded_with_its_name() -> None:
    """The form of the page redrives, and the audit page says who did it."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1)
        position = await position_of(app)
        page = await client.get(f"dead/{position}")
        assert "Redrive" in page.text
        answer = await post(client, "dead/redrive", {"position": position})
        assert answer.status_code == 303
        assert answer.headers["location"] == "../dead?done=redriven&n=1"
        assert "1 dead letter redriven" in (await client.get("dead?done=redriven&n=1")).text
        await app.settle()
        audit = (await client.get("audit")).text
        assert "ada" in audit
        assert "redrive" in audit
        assert str(position) in audit


async def test_an_edit_replaces_the_body_and_runs_it_again() -> None:
    """What was wrong in the body is mended, and what waited behind it follows."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1, 2)
        position = await position_of(app)
        fields = await form_of((await client.get(f"dead/{position}/edit")).text)
        fields["body"] = fields["body"].replace("-1", "1")
        answer = await post(client, f"dead/{position}/edit", {**fields, "then": "redrive"})
        assert answer.status_code == 303
        await app.settle()
        assert not await app.dead_letters.list()
        status = await app.status()
        assert status.groups[0].backlog.held == 0


async def test_an_edit_keeps_what_is_hidden_and_never_shows_it() -> None:
    """The mark stands in the form, and the value behind it in the stored body."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1)
        position = await position_of(app)
        page = (await client.get(f"dead/{position}/edit")).text
        assert "ada@example.com" not in page
        fields = await form_of(page)
        assert '"email": "«hidden 1»"' in fields["body"]
        fields["body"] = fields["body"].replace("-1", "-7")
        await post(client, f"dead/{position}/edit", {**fields, "then": "save"})
        letter = await app.dead_letters.get(position)
        assert letter is not None
        assert letter.data == b'{"order":"o1","amount":-7,"email":"ada@example.com"}'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"order": "o1", ', "This is no JSON"),
        ('{"order": "o1", "amount": "many", "email": "«hidden 1»"}', "Expected `int`"),
        ('{"order": "«hidden 1»", "amount": 1, "email": "x"}', "may stand only as the whole value"),
        ('{"order": "o1", "amount": 1, "email": "«hidden 7»"}', "no hidden value 7"),
    ],
)
async def test_an_edit_that_cannot_be_is_refused_with_its_text_kept(body: str, said: str) -> None:
    """The form comes back with the reason and with what was written; the stored body is as it was."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1)
        position = await position_of(app)
        before = await app.dead_letters.get(position)
        fields = await form_of((await client.get(f"dead/{position}/edit")).text)
        answer = await post(client, f"dead/{position}/edit", {**fields, "body": body})
        assert answer.status_code == 422
        assert said in html.unescape(answer.text)
        assert (await form_of(answer.text))["body"] == body
        assert "ada@example.com" not in answer.text
        assert await app.dead_letters.get(position) == before


async def test_an_edit_of_what_somebody_else_has_edited_is_refused() -> None:
    """The second of two who edit the same is told, and nothing is lost of what the first wrote."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1)
        position = await position_of(app)
        fields = await form_of((await client.get(f"dead/{position}/edit")).text)
        await app.dead_letters.edit(position, b'{"order":"o1","amount":-3,"email":"e"}', by="bob")
        answer = await post(client, f"dead/{position}/edit", fields)
        assert answer.status_code == 422
        assert "Somebody else has edited it" in answer.text
        letter = await app.dead_letters.get(position)
        assert letter is not None
        assert b"-3" in letter.data


async def test_a_drop_needs_a_reason_and_records_it() -> None:
    """Without one it asks for it; with one the letter is gone, and the audit page has both."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1)
        position = await position_of(app)
        await client.get(f"dead/{position}")
        refused = await post(client, "dead/drop", {"position": position, "reason": "  "})
        assert refused.status_code == 422
        assert len(await app.dead_letters.list()) == 1
        await post(client, "dead/drop", {"position": position, "reason": "a test order"})
        assert not await app.dead_letters.list()
        assert "a test order" in (await client.get("audit")).text


async def test_a_whole_group_is_counted_before_it_is_redriven_or_dropped() -> None:
    """The question shows how many there are, and a drop of more than that asks again."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        for number in range(3):
            await charge(app, -1, order=f"o{number}")
        group = {"queue": "group:shop/payments", "topic": "payments", "error": "ValueError"}
        asked = await client.get("dead/ask", params={**group, "do": "drop"})
        assert "Drop 3 dead letters?" in asked.text
        assert "Nothing has been done yet" in asked.text
        await charge(app, -1, order="o9")
        again = await post(client, "dead/drop", {**group, "count": 3, "reason": "tests"})
        assert again.status_code == 422
        assert "There are 4 of them now" in again.text
        assert len(await app.dead_letters.list()) == 4
        done = await post(client, "dead/drop", {**group, "count": 4, "reason": "tests"})
        assert done.headers["location"].endswith("dead?done=dropped&n=4")
        assert not await app.dead_letters.list()


async def test_marked_ones_are_asked_for_and_redriven_together() -> None:
    """Several positions of a list are one action."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        for number in range(3):
            await charge(app, -1, order=f"o{number}")
        positions = [one.position for one in await app.dead_letters.list()][:2]
        asked = await client.get("dead/ask", params={"position": positions, "do": "redrive"})
        assert "Redrive 2 dead letters?" in asked.text
        answer = await post(client, "dead/redrive", {"position": positions})
        assert answer.headers["location"].endswith("n=2")


async def test_the_hook_is_asked_for_each_action_and_may_refuse_it() -> None:
    """Who may redrive and not drop sees one button, and is refused the other."""
    app = make_app()
    asked: list[Action] = []

    async def only_redrive(request: Request, action: Action) -> str | None:
        asked.append(action)
        return "bob" if action.doing is Doing.REDRIVE else None

    async with app, client_of(Dashboard(app, authorize=only_redrive)) as client:
        await charge(app, -1)
        position = await position_of(app)
        page = (await client.get(f"dead/{position}")).text
        assert "Redrive" in page
        assert "Drop" not in page
        assert all(one.asking for one in asked)
        refused = await post(client, "dead/drop", {"position": position, "reason": "why not"})
        assert refused.status_code == 403
        assert asked[-1] == Action(doing=Doing.DROP, positions=(position,), reason="why not")
        assert (await client.get(f"dead/{position}/edit")).status_code == 403
        assert len(await app.dead_letters.list()) == 1


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"sec_fetch_site": "cross-site", "origin": "https://evil.example"}, None),
        ({"sec_fetch_site": "same-site", "origin": "http://other.ops.test"}, None),
        ({"sec_fetch_site": "none", "origin": ""}, None),
        ({"sec_fetch_site": "", "origin": "https://evil.example"}, None),
        ({"sec_fetch_site": "", "origin": "null"}, None),
        ({"sec_fetch_site": "", "origin": ""}, None),
        ({}, ""),
        ({}, "A" * 43),
    ],
)
async def test_what_another_site_makes_the_browser_send_is_refused(
    headers: dict[str, str], token: str | None
) -> None:
    """Another origin, no origin, no token or a wrong one: nothing is changed."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1)
        position = await position_of(app)
        await client.get(f"dead/{position}")
        fields = {"position": position, "reason": "mischief"}
        answer = await post(client, "dead/drop", fields, token=token, **headers)
        assert answer.status_code == 403
        assert "Nothing was changed" in answer.text
        assert len(await app.dead_letters.list()) == 1
        assert "Nobody has done anything" in (await client.get("audit")).text


async def test_the_cookie_of_forms_goes_to_no_other_site_and_to_no_script() -> None:
    """It is strict and for HTTP alone, and secure where the page is."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1)
        page = await client.get(f"dead/{await position_of(app)}")
        cookie = page.headers["set-cookie"].lower()
        assert "samesite=strict" in cookie
        assert "httponly" in cookie


async def test_a_proxy_that_changes_the_host_is_trusted_by_name() -> None:
    """An origin that the app names is its own, whatever the Host header says."""
    app = make_app()
    pages = Dashboard(app, authorize=ada, trusted_origins=["https://ops.example.com/"])
    async with app, client_of(pages) as client:
        await charge(app, -1)
        position = await position_of(app)
        await client.get(f"dead/{position}")
        outside = {"origin": "https://ops.example.com", "sec_fetch_site": ""}
        answer = await post(client, "dead/redrive", {"position": position}, **outside)
        assert answer.status_code == 303


async def test_a_form_that_is_none_is_refused() -> None:
    """JSON, a body that is too large, and positions that are no numbers change nothing."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1)
        await client.get(f"dead/{await position_of(app)}")
        headers = {"origin": ORIGIN, "sec-fetch-site": "same-origin"}
        assert (await client.post("dead/drop", json={}, headers=headers)).status_code == 415
        large = {"position": 1, "reason": "x" * (17 * 1024 * 1024)}
        assert (await post(client, "dead/drop", large)).status_code == 413
        assert (await post(client, "dead/redrive", {"position": "1 or 1"})).status_code == 400
        assert (await post(client, "dead/redrive", {})).status_code == 400
        assert len(await app.dead_letters.list()) == 1
