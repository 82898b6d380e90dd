"""Batches of dialogues, made by worker processes while the model trains.

Documents are packed into rows: short ones into short rows, so that attention over a row is cheap, the others
into long rows. A batch is both: for each (ids, document numbers, whether to learn) as arrays [rows, length].
"""

import multiprocessing
import random
from dataclasses import dataclass

import numpy as np

from corpus import training_dialogue
from dialogue import PAD, render
from tokenizer import Tokenizer


@dataclass(frozen=True)
class Shape:
    rows: int
    length: int


class Packer:
    """Fills rows of one shape, each document into the first open row that has room."""

    OPEN = 24

    def __init__(self, shape, pad):
        self.shape, self.pad = shape, pad
        self.done, self.open = [], []

    def add(self, ids, learned):
        for row in self.open:
            if len(row[0]) + len(ids) <= self.shape.length:
                break
        else:
            self.open.append(row := ([], [], []))
        row[0].extend(ids)
        row[1].extend([row[1][-1] + 1 if row[1] else 1] * len(ids))
        row[2].extend(learned)
        if len(self.open) > self.OPEN:
            fullest = max(range(len(self.open)), key=lambda i: len(self.open[i][0]))
            self.done.append(self.open.pop(fullest))

    @property
    def full(self):
        return len(self.done) >= self.shape.rows

    def take(self):
        rows, self.done = self.done[: self.shape.rows], self.done[self.shape.rows : 2 * self.shape.rows]
        ids = np.full((self.shape.rows, self.shape.length), self.pad, np.int16)
        documents = np.zeros(ids.shape, np.int16)
        learned = np.zeros(ids.shape, np.bool_)
        for i, (a, b, c) in enumerate(rows):
            ids[i, : len(a)], documents[i, : len(b)], learned[i, : len(c)] = a, b, c
        return ids, documents, learned


def batches(seed, short, long):
    """Endless batches; what does not fit into them is dropped."""
    rng, tokenizer = random.Random(seed), Tokenizer()
    pad = tokenizer.ids[PAD]
    packers = [Packer(short, pad), Packer(long, pad)]
    while True:
        ids, learned = tokenizer.encode_segments(render(training_dialogue(rng)))
        if len(ids) > long.length:
            continue
        packer = packers[len(ids) > short.length]
        if len(packer.done) < 3 * packer.shape.rows:
            packer.add(ids, learned)
        if all(packer.full for packer in packers):
            yield [packer.take() for packer in packers]


def work(queue, seed, short, long):
    for batch in batches(seed, short, long):
        queue.put(batch)


class Source:
    """Batches from worker processes; an earlier one again where they cannot keep up."""

    KEEP = 400

    def __init__(self, workers, seed, short, long):
        context = multiprocessing.get_context("fork")
        self.queue = context.Queue(4 * workers)
        self.workers = [
            context.Process(target=work, args=(self.queue, seed * 1000 + i, short, long), daemon=True) for i in range(workers)
        ]
        for worker in self.workers:
            worker.start()
        self.rng, self.kept, self.fresh, self.again = random.Random(seed), [], 0, 0

    def next(self):
        if self.queue.empty() and len(self.kept) >= 50:
            self.again += 1
            return self.rng.choice(self.kept)
        batch = self.queue.get(timeout=120)
        self.fresh += 1
        if len(self.kept) < self.KEEP:
            self.kept.append(batch)
        else:
            self.kept[self.rng.randrange(self.KEEP)] = batch
        return batch

    def close(self):
        for worker in self.workers:
            worker.terminate()
