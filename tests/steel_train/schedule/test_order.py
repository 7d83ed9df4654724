"""The laws of the schedule, for any rows, batch sizes and processes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_train.schedule.order import Schedule, padded_tokens


@st.composite
def schedules(draw):
    lengths = draw(st.lists(st.integers(1, 50), min_size=1, max_size=60))
    return Schedule(
        np.array(lengths),
        seed=draw(st.integers(0, 5)),
        epochs=draw(st.integers(1, 3)),
        micro_batch=draw(st.integers(1, 5)),
        accumulate=draw(st.integers(1, 4)),
        processes=draw(st.integers(1, 3)),
        room=draw(st.sampled_from([None, 60, 200])),
    )


@settings(max_examples=60, deadline=None)
@given(schedules())
def test_each_epoch_holds_every_row_once_whatever_the_layout(schedule):
    for epoch in range(schedule.epochs):
        seen = []
        for step in range(epoch * schedule.steps_per_epoch, (epoch + 1) * schedule.steps_per_epoch):
            passes = [schedule.groups(step, p) for p in range(schedule.processes)]
            assert len({len(p) for p in passes}) == 1, "processes must take part in equally many passes"
            units = [unit for p in passes for group in p for unit in group]
            assert sorted(units) == sorted(schedule.units(step).tolist())
            seen += units
        assert sorted(seen) == list(range(len(schedule.lengths)))


@settings(max_examples=60, deadline=None)
@given(schedules())
def test_no_pass_exceeds_its_room(schedule):
    for step in range(schedule.steps_per_epoch):
        for group in schedule.layout(schedule.units(step)):
            if schedule.room is None:
                assert len(group) <= schedule.micro_batch
            else:
                assert schedule.lengths[group].sum() <= schedule.room


def test_packing_and_processes_do_not_change_which_rows_make_a_step():
    lengths = np.arange(1, 101)
    alone = Schedule(lengths, 1, 2, micro_batch=4, accumulate=4)
    packed = Schedule(lengths, 1, 2, micro_batch=4, accumulate=4, room=64)
    shared = Schedule(lengths, 1, 2, micro_batch=4, accumulate=2, processes=2)
    for step in range(alone.steps):
        assert alone.units(step).tolist() == packed.units(step).tolist() == shared.units(step).tolist()


def test_epochs_and_seeds_differ_in_order():
    one, two = (Schedule(np.ones(50, int), seed, 2, 5, 1) for seed in (1, 2))
    assert one.units(0).tolist() != two.units(0).tolist()
    assert one.units(0).tolist() != one.units(one.steps_per_epoch).tolist()


def test_neighbours_in_length_share_a_pass():
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 500, 640)
    grouped = Schedule(lengths, 0, 1, micro_batch=8, accumulate=8)
    real, laid = padded_tokens(grouped, grouped.steps)
    assert real == lengths.sum()
    assert laid / real < 1.15  # rows in random order would be padded by some 80 %
