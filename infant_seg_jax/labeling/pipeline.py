"""Reading, working and writing at the same time, so that a device never waits for gzip."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Made = TypeVar("Made")
Written = TypeVar("Written")


def overlapped(
    items: Sequence[Item],
    read: Callable[[Item], Loaded],
    work: Callable[[Item, Loaded], Made],
    write: Callable[[Item, Made], Written],
) -> Generator[tuple[Item, Written | Exception], None, None]:
    """`write(work(read(item)))` for each item, in order, the three stages at once.

    While one item is worked on, in the thread of the caller, the next is read and the one before is
    written, each in a thread of its own. No more than that is ever held: one item read ahead, one
    worked on, one being written.

    Yields:
        Each item with what `write` returned, or the exception that one of its stages raised, which
        stops no other item. What stops the caller, a KeyboardInterrupt say, is not caught; what is
        being read or written then is brought to its end first.
    """
    with (
        ThreadPoolExecutor(1, "reading") as reader,
        ThreadPoolExecutor(1, "writing") as writer,
    ):
        ahead = [reader.submit(read, item) for item in items[:1]]
        behind: list[tuple[Item, Future[Written]]] = []
        for index, item in enumerate(items):
            reading = ahead.pop()
            wait([reading])
            ahead += [reader.submit(read, following) for following in items[index + 1 : index + 2]]
            try:
                made = work(item, reading.result())
            except Exception as error:
                yield from _finished(behind)
                yield item, error
                continue
            finally:
                del reading  # which holds what was read
            yield from _finished(behind)
            behind.append((item, writer.submit(write, item, made)))
            del made
        yield from _finished(behind)


def _finished(
    behind: list[tuple[Item, Future[Written]]],
) -> Iterator[tuple[Item, Written | Exception]]:
    """Wait for what is being written, if anything is, and forget it."""
    while behind:
        item, writing = behind.pop()
        try:
            result: Written | Exception = writing.result()
        except Exception as error:
            result = error
        yield item, result
