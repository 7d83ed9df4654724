"""What names a place in a bucket, and who may be given one."""

from pathlib import Path

import pytest

from steel_data.errors import InputError
from steel_data.store.names import below, is_far, refuse_arguments, refuse_unknown, told


def test_a_path_of_an_object_is_a_path() -> None:
    path = Path("s3://lab/data") / "a.jsonl"
    assert is_far(path) and not is_far(Path("lab/s3:/x")) and not is_far(Path("/s3:/x"))
    assert told(path) == "s3://lab/data/a.jsonl"
    assert told(Path("a/b")) == str(Path("a/b"))
    assert below(Path("recipes"), "s3://lab/data") == Path("s3://lab/data")
    assert below(Path("recipes"), "data") == Path("recipes/data")


@pytest.mark.parametrize("place", ["gs://lab/x", "s4://lab", "s3://", "s3://lab/../x", "https://host/x"])
def test_what_is_no_place_in_a_bucket_is_refused(place: str) -> None:
    with pytest.raises(InputError, match="Fix: "):
        refuse_unknown(Path(place))


def test_places_that_are_none_of_these_pass() -> None:
    for place in ("data", "/data", "s3://lab", "s3://lab/x", ".", "C:/data"):
        refuse_unknown(Path(place))


def test_commands_that_would_make_a_folder_of_that_name_refuse() -> None:
    for line in (
        ["build", "r.toml", "--out", "s3://lab/mix", "--cache=s3://lab/c"],
        ["--lang", "show", "s3://lab/mix"],
        ["run", "r.toml", "--data-root", "s3://lab/data"],
        ["run", "r.toml", "--data-root=s3://lab/data"],
        ["export", "mix", "--to", "messages"],
    ):
        refuse_arguments(line)
    for line in (
        ["export", "s3://lab/mix", "--to", "messages"],
        ["run", "r.toml", "--out=s3://lab/run"],
        ["sample", "s3://lab/data"],
        ["study", "s.toml", "--data", "s3://lab/data"],
    ):
        with pytest.raises(InputError, match=rf"s3://lab/\w+: {line[0]} takes no place in a bucket\. Fix: a copy"):
            refuse_arguments(line)
