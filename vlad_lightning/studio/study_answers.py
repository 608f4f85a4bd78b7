"""The answers of a study, in one SQLite file: who takes part, what each was asked, and what each answered.

An answer is on the disk before it is acknowledged: a kill or a power failure loses none that a rater's page showed as
saved. All values reach SQLite as parameters.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlad_lightning.studio.study_design import Item, session
from vlad_lightning.studio.study_folder import ANSWERS, SCORES, Study

MOST_RATERS = 10_000
"""The most raters of a study; whoever has the link of an open study can enrol."""

_BUSY_SECONDS = 30.0  # how long a write waits for that of another process
_SCHEMA = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE raters (number INTEGER PRIMARY KEY, token TEXT UNIQUE NOT NULL, consented REAL, withdrawn REAL) "
    "STRICT",
    "CREATE TABLE items (rater INTEGER NOT NULL REFERENCES raters, position INTEGER NOT NULL, kind TEXT NOT NULL, "
    "number INTEGER NOT NULL, shown TEXT NOT NULL, PRIMARY KEY (rater, position)) STRICT",
    "CREATE TABLE answers (rater INTEGER NOT NULL, position INTEGER NOT NULL, value TEXT NOT NULL, "
    "seconds REAL NOT NULL, answered REAL NOT NULL, PRIMARY KEY (rater, position), "
    "FOREIGN KEY (rater, position) REFERENCES items) STRICT",
)
_RATERS = (
    "SELECT number, consented IS NOT NULL, withdrawn IS NOT NULL, "
    "(SELECT COUNT(*) FROM answers WHERE rater = number), (SELECT COUNT(*) FROM items WHERE rater = raters.number) "
    "FROM raters"
)


@dataclass(frozen=True)
class Rater:
    """A person who takes part.

    Attributes:
        number: the row of the design, from 0.
        consented: whether the person has agreed to take part.
        withdrawn: whether the person has withdrawn, which deleted all answers.
        answered: number of answers.
        total: number of items.
    """

    number: int
    consented: bool
    withdrawn: bool
    answered: int
    total: int


@dataclass(frozen=True)
class Answer:
    """One answer, with what was asked.

    Attributes:
        rater: the rater's number.
        position: the item's position in the rater's session, from 0.
        item: what was asked.
        value: a score for each criterion, or one number: the place of the chosen image, from the left.
        seconds: how long the image was looked at, as the rater's page measured it.
        answered: when the answer was first saved, in seconds since 1970.
    """

    rater: int
    position: int
    item: Item
    value: tuple[int, ...]
    seconds: float
    answered: float


class Answers:
    """The store of a study's answers; safe to use from several threads.

    Args:
        folder: the study's folder; the file is made there with the first use.
        study: the study.

    Raises:
        ValueError: if ``study.json`` has changed since the first rater enrolled, or the file is no store of answers.
    """

    def __init__(self, folder: Path, study: Study) -> None:
        self._study = study
        self._lock = threading.Lock()
        path = folder / ANSWERS
        if not path.exists():
            path.touch(mode=0o600)  # it holds the raters' tokens
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(
                "PRAGMA synchronous = FULL"
            )  # WAL's default may lose the last commits with the power
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute("PRAGMA secure_delete = ON")  # who withdraws leaves nothing in the file
            self._open()
        except sqlite3.DatabaseError as error:
            self.close()
            raise ValueError(f"{path} is no store of answers: {error}") from error
        except ValueError:
            self.close()
            raise

    def _open(self) -> None:
        with self._writing() as db:
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'facts'").fetchone():
                for statement in _SCHEMA:
                    db.execute(statement)
                facts = {"join_key": secrets.token_hex(16), "results_token": secrets.token_hex(16)}
                db.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
            enrolled = db.execute("SELECT COUNT(*) FROM raters").fetchone()[0]
            if not enrolled:  # until then, the owner may edit the study
                db.execute("INSERT OR REPLACE INTO facts VALUES ('study', ?)", (self._study.digest,))
        if self.fact("study") != self._study.digest:
            raise ValueError(
                "study.json has changed since the first rater enrolled; put the earlier one back, or draw a new study"
            )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction, which is on the disk afterwards."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[str, ...]]:
        with self._lock:
            return self._connection.execute(statement, tuple(values)).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def fact(self, name: str) -> str:
        """Return ``join_key``, with which anyone can enrol, ``results_token``, or ``study``, the design's digest."""
        return self._rows("SELECT value FROM facts WHERE name = ?", (name,))[0][0]

    def enrol(self, consented: bool = False) -> str:
        """Add a rater and return the rater's token.

        Args:
            consented: whether the rater has agreed to take part.

        Raises:
            ValueError: if the study has :data:`MOST_RATERS`.
        """
        token = secrets.token_hex(16)
        with self._writing() as db:
            number = db.execute("SELECT COUNT(*) FROM raters").fetchone()[0]
            if number >= MOST_RATERS:
                raise ValueError(f"the study has {MOST_RATERS:,} raters, which is the most")
            db.execute("INSERT INTO raters VALUES (?, ?, ?, NULL)", (number, token, time.time() if consented else None))
            db.executemany(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?)",
                [
                    (number, position, item.kind, item.number, json.dumps(item.shown))
                    for position, item in enumerate(self._session(number))
                ],
            )
        return token

    def _session(self, number: int) -> list[Item]:
        study = self._study
        return session(
            number,
            len(study.systems),
            len(study.rated),
            len(study.compared),
            [check.kind for check in study.checks],
            np.random.default_rng([study.seed, number]),
        )

    def tokens(self) -> list[str]:
        """Return the tokens of all raters, by number."""
        return [row[0] for row in self._rows("SELECT token FROM raters ORDER BY number")]

    def rater(self, token: str) -> Rater | None:
        """Return the rater with a token; None if there is none."""
        found = self._rows(f"{_RATERS} WHERE token = ?", (token,))
        return _rater(found[0]) if found else None

    def raters(self) -> list[Rater]:
        """Return all raters, by number."""
        return [_rater(row) for row in self._rows(f"{_RATERS} ORDER BY number")]

    def consent(self, rater: Rater) -> None:
        """Store that a rater has agreed to take part; a second time changes nothing."""
        with self._writing() as db:
            db.execute(
                "UPDATE raters SET consented = coalesce(consented, ?) WHERE number = ?", (time.time(), rater.number)
            )

    def withdraw(self, rater: Rater) -> None:
        """Delete all answers of a rater, who can give no more."""
        with self._writing() as db:
            db.execute("DELETE FROM answers WHERE rater = ?", (rater.number,))
            db.execute("UPDATE raters SET withdrawn = ? WHERE number = ?", (time.time(), rater.number))
        self._rows("PRAGMA wal_checkpoint(TRUNCATE)")  # the log still has them

    def item(self, rater: Rater, position: int) -> tuple[Item, tuple[int, ...] | None]:
        """Return an item of a rater, and its answer if there is one.

        Raises:
            ValueError: if the rater may not see it yet, or there is none.
        """
        self._check_position(rater, position)
        kind, number, shown, value = self._rows(
            "SELECT kind, number, shown, value FROM items LEFT JOIN answers USING (rater, position) "
            "WHERE rater = ? AND position = ?",
            (rater.number, position),
        )[0]
        return _item(kind, number, shown), None if value is None else tuple(json.loads(value))

    @staticmethod
    def _check_position(rater: Rater, position: int) -> None:
        last = min(rater.answered, rater.total - 1)
        if not 0 <= position <= last:
            raise ValueError(f"position is {position}; it must be a whole number from 0 to {last}")

    def save(self, rater: Rater, position: int, value: Sequence[int], seconds: float) -> None:
        """Save an answer; a later answer to the same item replaces the value and keeps the times.

        Args:
            rater: the rater.
            position: the item's position, at most that of the next item.
            value: a score for each criterion, or the place of the chosen image.
            seconds: how long the image was looked at.

        Raises:
            ValueError: if the position is not the rater's, or the value does not answer the item.
        """
        item, _ = self.item(rater, position)
        self._check_value(item, value)
        with self._writing() as db:
            if db.execute("SELECT withdrawn FROM raters WHERE number = ?", (rater.number,)).fetchone()[0] is not None:
                raise ValueError("the rater has withdrawn")
            db.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (rater, position) DO UPDATE SET value = excluded.value",
                (rater.number, position, json.dumps(list(value)), seconds, time.time()),
            )

    def _check_value(self, item: Item, value: Sequence[int]) -> None:
        rates = item.kind in ("rate", "check_rate")
        allowed, count = (SCORES, len(self._study.criteria)) if rates else ((0, 1), 1)
        if len(value) != count or not all(type(number) is int and number in allowed for number in value):
            raise ValueError(
                f"value is {list(value)[:10]}; it must be {count} numbers from {min(allowed)} to {max(allowed)}"
            )

    def answers(self) -> list[Answer]:
        """Return all answers, by rater and position."""
        rows = self._rows(
            "SELECT rater, position, kind, number, shown, value, seconds, answered "
            "FROM answers JOIN items USING (rater, position) ORDER BY rater, position"
        )
        return [
            Answer(int(r), int(p), _item(kind, n, shown), tuple(json.loads(value)), float(seconds), float(answered))
            for r, p, kind, n, shown, value, seconds, answered in rows
        ]


def _rater(row: Sequence[object]) -> Rater:
    number, consented, withdrawn, answered, total = (int(str(value)) for value in row)
    return Rater(number, bool(consented), bool(withdrawn), answered, total)


def _item(kind: str, number: object, shown: str) -> Item:
    return Item(kind, int(str(number)), tuple(json.loads(shown)))  # type: ignore[arg-type]
