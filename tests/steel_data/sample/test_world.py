"""The invented world: kinds, things that no two pools share, facts that are told once."""

import pytest

from steel_data.errors import InputError
from steel_data.sample.draw import Draws, texts
from steel_data.sample.world import ThingPool, World


def test_every_chinese_kind_has_its_measure_word():
    kinds = {**texts("world_a"), **texts("world_b")}
    assert len(kinds) == 20
    assert [key for key, spec in kinds.items() if len(spec.get("measure", "")) != 1] == []


def test_no_two_pools_speak_of_one_thing():
    world = World(3, "world_en")
    pools = [ThingPool(world, name) for name in ("train", "test", "chat")]
    names = [pool.thing("moon").name for pool in pools for _ in range(40)]
    assert len(set(names)) == 120


def test_a_fact_is_told_once_and_not_beside_its_like():
    pool = ThingPool(World(3, "world_a"), "exam")
    facts = [pool.fact("river") for _ in range(40)]  # 8 things with five attributes
    assert len({(fact.thing.name, fact.attribute.id) for fact in facts}) == 40
    assert len({fact.thing.name for fact in facts}) == 8
    assert len({fact.thing.name for fact in facts[:5]}) > 1


def test_a_fact_holds_for_its_thing_and_for_no_unlike_one():
    pool, draw = ThingPool(World(5, "world_a", "world_b"), "exam"), Draws(5)
    for kind in pool.kinds:
        fact = pool.fact(kind)
        assert fact.value not in fact.wrong
        assert fact.value in fact.state(draw)
        assert len(fact.others) == len(fact.thing.facts) - 1
        # More than there are: the pool makes new ones.
        assert all(thing.fact(fact.attribute).value != fact.value for thing in pool.unlike(fact, 12, draw))


def test_names_end():
    pool = ThingPool(World(1, "world_en"), "chat")
    with pytest.raises(InputError, match="no more names for stone"):
        for _ in range(10**5):
            pool.thing("stone")
