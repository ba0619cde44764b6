"""Three stages at once, bounded, each item's failure its own."""

import threading

import pytest

from infant_seg_jax.labeling.pipeline import overlapped

SECONDS = 20  # before a test that would wait for ever fails


def test_results_come_in_order():
    assert list(overlapped([], str, lambda i, text: text, lambda i, text: text)) == []
    done = overlapped(range(5), str, lambda i, text: text * 2, lambda i, text: (i, text))
    assert list(done) == [(i, (i, f"{i}{i}")) for i in range(5)]


def test_the_next_is_read_and_the_last_is_written_while_one_is_worked_on():
    reading, writing, worked = ([threading.Event() for _ in range(4)] for _ in range(3))

    def read(i):
        reading[i].set()
        return i

    def work(i, loaded):
        # Nothing of this would happen while we are here, were the stages one after another.
        if i < 3:
            assert reading[i + 1].wait(SECONDS)
        if i > 0:
            assert writing[i - 1].wait(SECONDS)
        worked[i].set()
        return loaded

    def write(i, made):
        writing[i].set()
        if i < 3:
            assert worked[i + 1].wait(SECONDS)
        return made

    assert list(overlapped(range(4), read, work, write)) == [(i, i) for i in range(4)]


def test_no_more_than_one_is_read_ahead():
    lock, read_so_far, ahead = threading.Lock(), [], []

    def read(i):
        with lock:
            read_so_far.append(i)

    def work(i, loaded):
        threading.Event().wait(0.01)  # time enough to read on, if it could
        with lock:
            ahead.append(len(read_so_far) - 1 - i)

    list(overlapped(range(8), read, work, lambda i, made: None))
    assert max(ahead) <= 1


@pytest.mark.parametrize("stage", ["read", "work", "write"])
def test_a_failure_stops_no_other(stage):
    def failing(name):
        def do(i, *_):
            if name == stage and i in (0, 2):
                raise ValueError(f"{name} {i}")
            return i

        return do

    done = list(overlapped(range(4), failing("read"), failing("work"), failing("write")))
    assert [item for item, _ in done] == [0, 1, 2, 3]
    assert [str(result) for _, result in done] == [f"{stage} 0", "1", f"{stage} 2", "3"]
    assert isinstance(done[0][1], ValueError)


def test_what_is_being_written_is_brought_to_its_end_when_stopped():
    written, stopped = [], threading.Event()

    def work(i, loaded):
        if i == 1:
            stopped.set()
            raise KeyboardInterrupt
        return i

    def write(i, made):
        stopped.wait(SECONDS)
        written.append(i)

    with pytest.raises(KeyboardInterrupt):
        list(overlapped(range(4), str, work, write))
    assert written == [0]
    assert not any(
        thread.name.startswith(("reading", "writing")) for thread in threading.enumerate()
    )
