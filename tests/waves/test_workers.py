"""Tasks on this machine's cores and on a real Dask cluster, whose parts are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from hrtem.columns import Columns
from hrtem.errors import InputError
from hrtem.samples import Sample
from hrtem.waves.cache import WaveCache
from hrtem.waves.multislice import Multislice
from hrtem.waves.workers import check, run_tasks, show

HERE = Path(__file__).parent


class Slow(Sample):
    """Two atoms that take their time; the structure of index ``bad`` has an atom nowhere."""

    known_classes = ("C",)
    seconds, bad = 0.0, None

    def __call__(self, rng):
        time.sleep(self.seconds)
        positions = rng.uniform(2, 10, size=(2, 2))
        atoms = self.in_cell(Atoms("C2", np.column_stack([positions, [0, 0]])), thickness=2.0)
        if self.bad and self.bad == rng.bit_generator.seed_seq.entropy[-1]:
            atoms.positions[0] = np.nan
        return atoms, Columns(positions, [0, 0], self.classes, counts=[1, 1])


def cache(root, seconds=0.0, bad=None):
    sample = Slow("slow", ["C"], 12.8, {"C": 0.06})
    sample.seconds, sample.bad = seconds, bad
    return WaveCache(root, sample, Multislice(80e3, 0.2), {}, seed=0)


def sound(store, number, tmp_path):
    """Whether each record is there once, whole, and the wave that this process finds."""
    names = sorted(path.name for path in (store.folder / "train").iterdir())
    assert names == [f"{n:06d}.npz" for n in range(number)]
    alone = cache(tmp_path / "alone")
    for n in range(number):
        alone.compute("train", n)
        # Another plan of the transforms may add up in another order.
        np.testing.assert_allclose(store.load("train", n)[0], alone.load("train", n)[0], atol=5e-6)


def threads_after(store, index):
    """Compute a record; then the process, the environment's word, and the most threads that any library would use."""
    store.compute("train", index)
    import abtem
    from threadpoolctl import threadpool_info

    most = max([1, *(pool["num_threads"] for pool in threadpool_info())])
    return os.getpid(), os.environ["OMP_NUM_THREADS"], most, abtem.config.get("fftw.threads")


def twice(number):
    return 2 * number


def die(number):
    os._exit(number)


def test_tasks_in_this_process_come_in_order():
    assert list(run_tasks(twice, [(1,), (2,)], "inline")) == [2, 4]


@pytest.mark.parametrize("word", ["cloud", "dask://x", "", 3])
def test_unknown_scheduler_is_refused(word):
    with pytest.raises(InputError, match=rf"wave\.scheduler must be local, inline or a tcp:// address, got {word}"):
        check(word)
    with pytest.raises(InputError, match=r"wave\.scheduler"):
        list(run_tasks(twice, [(1,)], word))


@pytest.mark.slow
def test_local_workers_compute_the_same_with_one_thread_each(tmp_path, monkeypatch):
    """Real worker processes; not one of their libraries takes more than its core."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    store = cache(tmp_path / "dask")
    answers = list(run_tasks(threads_after, [(store, n) for n in range(3)], "local"))
    assert os.getpid() not in {process for process, *_ in answers}
    assert {tuple(map(str, answer[1:])) for answer in answers} == {("1", "1", "1")}
    sound(store, 3, tmp_path)


def test_the_bar_begins_where_the_cache_is(capsys):
    show(iter([1, 0]), missing=2, total=10, title="Simulating")
    out = capsys.readouterr().out
    assert "10/10" in out
    assert "waves/s" in out


@contextlib.contextmanager
def cluster(workers=2):
    """A Dask scheduler and its workers, as a user starts them: address, and processes, the scheduler first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = str(Path(sys.executable).with_name("dask"))
    paths = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    settings = {"env": os.environ | {"PYTHONPATH": paths}, "cwd": "/", "stderr": subprocess.DEVNULL}
    commands = [[dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]]
    commands += [[dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * workers
    processes = [subprocess.Popen(command, **settings) for command in commands]
    try:
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path, monkeypatch):
    """Its waves are simulated by the other one; the cache may be named by a path that only this process knows."""
    monkeypatch.chdir(tmp_path)
    store = cache(Path("cluster"), seconds=0.3)
    with cluster() as (address, processes):
        steps = []
        for left in store.fill({"train": 16}, scheduler=address):
            steps.append(left)
            if left == 10:
                processes[1].send_signal(signal.SIGKILL)
    assert steps == list(range(16, -1, -1))
    sound(store, 16, tmp_path)


@pytest.mark.slow
def test_a_lost_scheduler_is_told_and_what_is_done_stays(tmp_path):
    store = cache(tmp_path / "cluster", seconds=0.3)
    with cluster() as (address, processes):
        steps = store.fill({"train": 12}, scheduler=address)
        assert [next(steps) for _ in range(5)] == [12, 11, 10, 9, 8]
        processes[0].send_signal(signal.SIGKILL)
        with pytest.raises(InputError) as told:
            list(steps)
    assert f"wave.scheduler {address} went away with" in str(told.value)
    assert "\n" not in str(told.value)
    missing = len(store.missing("train", 12))
    assert 0 < missing <= 8
    assert list(store.fill({"train": 12}, scheduler="inline")) == list(range(missing, -1, -1))
    sound(store, 12, tmp_path)


@pytest.mark.slow
def test_a_bad_structure_ends_with_its_sentence(tmp_path):
    with cluster(workers=1) as (address, _):
        for scheduler in (address, "local"):
            store = cache(tmp_path / scheduler.partition(":")[0], bad=2)
            with pytest.raises(InputError, match="positions are no numbers") as told:
                list(store.fill({"train": 4}, scheduler=scheduler))
            assert told.value.__cause__ is None
            assert told.value.__suppress_context__
            assert 2 in store.missing("train", 4)


def test_workers_of_another_folder_are_noticed(tmp_path):
    """As on another machine: the records are written, but not where this process looks for them."""

    class Elsewhere(WaveCache):
        def missing(self, split, number):
            return list(range(number))

    store = cache(tmp_path)
    elsewhere = Elsewhere(store.root, store.sample, store.wave, store.recipe, store.seed)
    with pytest.raises(InputError, match=r"data\.cache must be a folder that this process and all workers .* 1 wave"):
        list(elsewhere.fill({"train": 1}, scheduler="inline"))


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_refused():
    with pytest.raises(InputError, match=r"wave\.scheduler .*127\.0\.0\.1:9 does not answer"):
        list(run_tasks(twice, [(1,)], "tcp://127.0.0.1:9"))


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_told():
    with pytest.raises(InputError, match=r"wave\.scheduler local has lost several workers"):
        list(run_tasks(die, [(1,)], "local"))


FILL = """
import sys
from pathlib import Path
from test_workers import cache
if __name__ == "__main__":
    for left in cache(Path(sys.argv[1]), seconds=0.3).fill({"train": 16}, scheduler="local"):
        print(left, flush=True)
"""


@pytest.mark.slow
def test_a_killed_fill_continues_where_it_stopped(tmp_path):
    script = tmp_path / "fill.py"
    script.write_text(FILL)
    settings = {"env": os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}}
    store = cache(tmp_path / "cache", seconds=0.3)

    def start():
        return subprocess.Popen(
            [sys.executable, script, store.root],
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.DEVNULL,
            **settings,
        )

    first = start()
    for line in first.stdout:
        if int(line) == 9:
            first.send_signal(signal.SIGKILL)
            break
    first.wait()
    first.stdout.close()
    # Workers whose scheduler is gone end by themselves, after the wave that they are at.
    time.sleep(3.0)
    missing = len(store.missing("train", 16))
    assert 0 < missing <= 9
    again = start()
    lines = again.communicate()[0].split()
    assert again.returncode == 0
    assert [int(left) for left in lines] == list(range(missing, -1, -1))
    sound(store, 16, tmp_path)
