"""The id of a record: the contract's bytes, extras in any key order, text untouched."""

import json

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from steel_data.row.record import conversation_fault, conversation_id, preference_id, record_id, text_view

TURN = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=20)})


@given(st.lists(TURN, max_size=5))
def test_the_id_is_that_of_the_compact_json(messages: list[dict[str, str]]) -> None:
    pairs = [[m["role"], m["content"]] for m in messages]
    compact = json.dumps(pairs, ensure_ascii=False, separators=(",", ":")).encode()
    assert conversation_id(messages) == xxhash.xxh3_128_hexdigest(compact)


def test_text_is_hashed_untouched() -> None:
    one, two = ([{"role": "user", "content": text}] for text in ("Ａ 问", "A 问"))
    assert conversation_id(one) != conversation_id(two)


def test_extras_enter_the_id_whatever_the_order_of_their_keys() -> None:
    plain = {"role": "assistant", "content": ""}
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    turned = {"function": {"arguments": "{}", "name": "f"}, "type": "function"}
    ids = {conversation_id([{**plain, "tool_calls": [c]}]) for c in (call, turned)}
    assert len(ids) == 1
    assert conversation_id([plain]) not in ids
    assert conversation_id([{**plain, "loss": False}]) != conversation_id([{**plain, "loss": True}])
    assert conversation_id([plain], tools=[{"a": 1, "b": 2}]) == conversation_id([plain], tools=[{"b": 2, "a": 1}])
    assert conversation_id([plain], tools=[{"a": 1}]) != conversation_id([plain])
    assert conversation_id([{**plain, "reasoning_content": None}]) == conversation_id([plain])


def test_preference_rows_have_an_id_of_their_own() -> None:
    user, good, bad = ([{"role": r, "content": c}] for r, c in (("user", "q"), ("assistant", "a"), ("assistant", "b")))
    assert preference_id(user, good, bad) != preference_id(user, bad, good)
    assert record_id({"prompt": user, "chosen": good, "rejected": bad}) == preference_id(user, good, bad)


def test_a_lone_surrogate_has_no_id() -> None:
    with pytest.raises(TypeError):
        conversation_id([{"role": "user", "content": "\ud800"}])


def test_the_text_view_holds_what_is_said() -> None:
    answer = {
        "role": "assistant",
        "content": "二",
        "reasoning_content": "想",
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
    }
    messages = [{"role": "user", "content": "一"}, answer]
    assert text_view({"messages": messages}) == "一\n想\n二\nf {}"
    assert text_view({"messages": messages, "tools": [{"name": "f"}]}) == '[{"name":"f"}]\n一\n想\n二\nf {}'


@pytest.mark.parametrize(
    ("roles", "fault"),
    [
        ("ua", None), ("sua", None), ("uaua", None), ("uata", None), ("uatta", None), ("", "empty"), ("u", "roles"),
        ("a", "roles"), ("uu", "roles"), ("usa", "roles"), ("uat", "roles"), ("ssua", "roles"),
    ],
)  # fmt: skip
def test_which_conversations_can_be_trained_on(roles: str, fault: str | None) -> None:
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    found = conversation_fault([{"role": names[r], "content": "x"} for r in roles])
    assert (found or "").partition(": ")[0] == (fault or "")


def test_a_role_out_of_place_is_named_with_its_place() -> None:
    turns = [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]
    assert conversation_fault(turns) == "roles: turn 1 is user, behind user"
    assert conversation_fault(turns[:1]) == "roles: the last turn is user"
    assert conversation_fault([{"role": "assistant", "content": "x"}]) == "roles: turn 0 is assistant, first"
