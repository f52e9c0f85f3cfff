"""The spool on a real disk: whatever is cut off, whoever is killed, what was synced is read back in order, and nothing else."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillstream.gateway import spool as spool_module
from tillstream.gateway.segments import BODY_BYTES_MAX, DAMAGED, HEADER, SUFFIX, framed, records_in, segment_path
from tillstream.gateway.spool import LOCK, Spool, SpoolFailed, SpoolFull, SpoolInUse

ROOM = 64 * 1024 * 1024
BODIES = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12)

WRITER = """
import asyncio, sys
from pathlib import Path
from tillstream.gateway.spool import Spool

async def writing(spool, lane):
    number = 0
    while True:
        bodies = [f"{lane}/{number + step}/".encode() + b"x" * (number % 3000) for step in range(1 + number % 4)]
        await spool.append(bodies)
        number += len(bodies)
        print(lane, number, flush=True)

async def main():
    spool = Spool(Path(sys.argv[1]), 1 << 30)
    await asyncio.gather(*(writing(spool, lane) for lane in range(4)))

asyncio.run(main())
"""
"""Four writers at once; each says how many of its records it was told to be synced."""


async def all_of(spool: Spool, records_max: int = 5) -> list[bytes]:
    """Everything in a spool, acknowledged."""
    bodies: list[bytes] = []
    while (batch := await spool.read(records_max)) is not None:
        bodies += batch.bodies
        await spool.acknowledge(batch)
    return bodies


def read_back(folder: Path) -> list[bytes]:
    """What a new process finds in the folder; nothing is left but the lock."""

    async def reading() -> list[bytes]:
        spool = Spool(folder, ROOM)
        found = spool.records
        bodies = await all_of(spool)
        await spool.close()
        assert (len(bodies), spool.records, spool.bytes) == (found, 0, 0)
        return bodies

    return asyncio.run(reading())


def fill(folder: Path, *groups: list[bytes]) -> None:
    """A process that appends each group and ends."""

    async def filling() -> None:
        spool = Spool(folder, ROOM)
        for group in groups:
            await spool.append(group)
        await spool.close()

    asyncio.run(filling())


def files(folder: Path) -> int:
    return len(list(folder.glob(f"*{SUFFIX}")))


def test_appended_is_read_back_in_order_and_the_folder_is_empty_afterwards(tmp_path: Path) -> None:
    fill(tmp_path, [b"a", b"b"], [b"c"])
    fill(tmp_path, [b"d"])
    assert files(tmp_path) == 2
    assert read_back(tmp_path) == [b"a", b"b", b"c", b"d"]
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_read_without_acknowledging_gives_the_same_again_also_to_the_next_process(tmp_path: Path) -> None:
    async def reading() -> None:
        spool = Spool(tmp_path, ROOM)
        await spool.append([b"a", b"b", b"c"])
        first = await spool.read(2)
        assert first == await spool.read(2)
        assert first is not None
        await spool.acknowledge(first)
        await spool.append([b"d"])
        following = await spool.read(9)
        assert following is not None
        assert following.bodies == [b"c", b"d"]
        await spool.close()

    asyncio.run(reading())
    assert read_back(tmp_path) == [b"a", b"b", b"c", b"d"]


def test_reading_and_appending_at_once_keeps_the_order(tmp_path: Path) -> None:
    async def both() -> list[bytes]:
        spool, bodies = Spool(tmp_path, ROOM), list[bytes]()
        for number in range(200):
            await spool.append([str(number).encode()])
            if number % 3 == 0:
                bodies += await all_of(spool)
        bodies += await all_of(spool)
        await spool.close()
        return bodies

    assert asyncio.run(both()) == [str(number).encode() for number in range(200)]


@settings(max_examples=60)
@given(groups=st.lists(BODIES, min_size=1, max_size=4), cut=st.data())
def test_file_cut_at_any_byte_gives_every_whole_record_before_it_and_nothing_else(groups: list[list[bytes]], cut: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, *groups)
        path = segment_path(folder, 0)
        ends = [found.end for found in records_in(path.read_bytes())]
        size = cut.draw(st.integers(0, ends[-1]))
        os.truncate(path, size)
        bodies = [body for group in groups for body in group]
        assert read_back(folder) == bodies[: sum(end <= size for end in ends)]
        assert not list(folder.glob(f"*{DAMAGED}"))


@settings(max_examples=60)
@given(bodies=BODIES, tail=st.binary(max_size=60))
def test_anything_behind_what_was_synced_adds_no_record(bodies: list[bytes], tail: bytes) -> None:
    if list(records_in(tail)):  # By chance, or by Hypothesis' skill: a record.
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, bodies)
        with segment_path(folder, 0).open("ab") as file:
            file.write(tail)
        fill(folder, [b"next"])
        assert read_back(folder) == [*bodies, b"next"]


@given(bodies=BODIES, at=st.data())
def test_changed_byte_is_noticed_and_the_file_kept(bodies: list[bytes], at: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, bodies)
        path = segment_path(folder, 0)
        raw = bytearray(path.read_bytes())
        ends = [found.end for found in records_in(bytes(raw))]
        place = at.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= 1 << at.draw(st.integers(0, 7))
        path.write_bytes(raw)
        assert read_back(folder) == bodies[: sum(end <= place for end in ends)]
        # A length that became larger than the file looks as if it had been torn off.
        begin = max([0, *(end for end in ends if end <= place)])
        if place - begin >= HEADER.size:
            assert [kept.read_bytes() for kept in folder.glob(f"*{DAMAGED}")] == [bytes(raw)]


def test_tail_of_zeros_is_no_record(tmp_path: Path) -> None:
    fill(tmp_path, [b"a"])
    with segment_path(tmp_path, 0).open("ab") as file:
        file.write(bytes(4096))
    assert read_back(tmp_path) == [b"a"]


def test_full_spool_takes_nothing_and_has_room_again_when_drained(tmp_path: Path) -> None:
    async def filling() -> None:
        record = b"x" * 992
        spool = Spool(tmp_path, 10_000)
        for _ in range(10):
            await spool.append([record])
        with pytest.raises(SpoolFull, match="10000 of 10000 bytes"):
            await spool.append([b"y"])
        assert (spool.records, spool.bytes) == (10, 10_000)
        assert await all_of(spool) == [record] * 10
        await spool.append([b"y"])
        assert (spool.records, spool.bytes) == (1, 9)
        await spool.close()

    asyncio.run(filling())
    assert read_back(tmp_path) == [b"y"]


def test_files_are_closed_at_their_size_and_deleted_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES_MAX", 1_000)

    async def filling() -> None:
        spool = Spool(tmp_path, ROOM)
        for number in range(40):
            await spool.append([f"{number:092}".encode()])
        assert files(tmp_path) == 4
        batch = await spool.read(100)
        assert batch is not None
        assert len(batch.bodies) == 10
        await spool.acknowledge(batch)
        assert (files(tmp_path), spool.bytes) == (3, 3_000)
        await spool.close()

    asyncio.run(filling())
    assert read_back(tmp_path) == [f"{number:092}".encode() for number in range(10, 40)]


def test_second_process_is_refused_the_folder(tmp_path: Path) -> None:
    async def opening() -> None:
        spool = Spool(tmp_path, ROOM)
        with pytest.raises(SpoolInUse, match="give each gateway a folder of its own"):
            Spool(tmp_path, ROOM)
        await spool.close()
        await Spool(tmp_path, ROOM).close()

    asyncio.run(opening())


def test_body_that_is_empty_or_too_long_is_refused(tmp_path: Path) -> None:
    async def appending() -> None:
        spool = Spool(tmp_path, ROOM)
        for body in (b"", b"x" * (BODY_BYTES_MAX + 1)):
            with pytest.raises(ValueError, match="a record has 1 to"):
                await spool.append([b"a", body])
        await spool.append([b"x" * BODY_BYTES_MAX])
        assert await all_of(spool) == [b"x" * BODY_BYTES_MAX]
        await spool.close()

    asyncio.run(appending())


def test_disk_that_refuses_takes_nothing_and_the_next_append_goes_to_a_new_file(tmp_path: Path) -> None:
    """The file's descriptor is exchanged for one that can't be written, as a full or failing disk would refuse."""

    async def failing() -> None:
        spool = Spool(tmp_path, ROOM)
        await spool.append([b"a"])
        refusing = os.open("/dev/full", os.O_WRONLY)
        assert spool.file is not None
        os.dup2(refusing, spool.file)
        os.close(refusing)
        with pytest.raises(SpoolFailed, match="No space left"):
            await spool.append([b"b"])
        assert (spool.records, spool.bytes) == (1, 9)
        await spool.append([b"c"])
        await spool.close()

    asyncio.run(failing())
    assert read_back(tmp_path) == [b"a", b"c"]


def test_process_killed_while_it_writes_loses_nothing_that_it_was_told_is_synced(tmp_path: Path) -> None:
    for seed in range(4):
        folder = tmp_path / str(seed)
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.02, 0.4))
        os.kill(child.pid, signal.SIGKILL)
        told = dict.fromkeys(range(4), 0)
        for line in child.communicate()[0].splitlines():
            if line.count(" ") == 1 and line.split()[1]:
                told[int(line.split()[0])] = max(told[int(line.split()[0])], int(line.split()[1]))
        kept: dict[int, list[int]] = {lane: [] for lane in told}
        for body in read_back(folder):
            by, number, _ = body.split(b"/")
            kept[int(by)].append(int(number))
        for lane, numbers in kept.items():
            assert numbers == list(range(len(numbers))), f"seed {seed}"
            assert len(numbers) >= told[lane], f"seed {seed}"


def test_record_of_the_largest_size_stands_across_what_is_read_at_a_time() -> None:
    body = random.Random(1).randbytes(BODY_BYTES_MAX)
    assert [found.body for found in records_in(framed(body))] == [body]
