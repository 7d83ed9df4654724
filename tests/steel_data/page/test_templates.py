"""Nothing that a template prints is markup, acts unseen, or is silently not there."""

import jinja2
import pytest

from steel_data.page.templates import environment

EVIL = "<b>\u202e"


def rendered(folder, name, text, **values):
    (folder / name).write_text(text, encoding="utf-8")
    return environment(folder).get_template(name).render(values)


def test_texts_are_escaped_on_pages_and_visible_everywhere(tmp_path):
    assert rendered(tmp_path, "page.html.j2", "{{ x }}", x=EVIL) == "&lt;b&gt;\\u202e"
    assert rendered(tmp_path, "page.html.j2", "{{ x | safe }}", x="<b>") == "<b>"
    assert rendered(tmp_path, "card.md.j2", "{{ x }}", x=EVIL) == "<b>\\u202e"


def test_a_name_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="nothing"):
        rendered(tmp_path, "page.html.j2", "{{ nothing }}")


def test_numbers_that_are_not_there_are_dashes(tmp_path):
    text = "{{ x | percent }} {{ x | signed }} {{ x | number }} {{ x | p }}"
    assert rendered(tmp_path, "page.html.j2", text, x=0.12345) == "12.3 +12.3 0.123 0.12"
    assert rendered(tmp_path, "page.html.j2", text, x=None) == "– – – –"


def test_names_are_the_same_in_both_languages(tmp_path):
    page = rendered(tmp_path, "page.html.j2", """{{ t("step <bdi>{}</bdi>", "kind") }}""")
    assert page.count("<bdi>kind</bdi>") == 2 and "步骤" in page
