"""Checkpoints that are whole under their name, or not there; written while training goes on, if asked."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from vlad_lightning.checkpoints.checksum import checksum_file, verify
from vlad_lightning.checkpoints.folder import is_folder_checkpoint, read_checkpoint, refuse_address
from vlad_lightning.checkpoints.ranks import SaveFailedError, on_each_node
from vlad_lightning.lightning_internals import storage_id


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, to the disk, with a SHA-256, then renames: a kill leaves the checkpoint before.

    Lightning collects a checkpoint in memory, writes it into the temporary folder and moves it, which across file
    systems is a copy under the final name. This one streams it, so a large checkpoint needs no second copy in memory.
    What is loaded is compared with its checksum first, and never runs pickled code. Saves to other file systems
    (``s3://``) are left to Lightning; nothing is loaded from there.

    Attributes:
        asynchronous: a save copies the state to the CPU's memory and returns; a thread writes it. One at a time: the
            next save waits. Lightning's ``AsyncCheckpointIO`` copies on the device, gives tensors that share their
            storage one each (an average and what is frozen would be written twice), and lets saves queue up.
        goes_on: an ``OSError``, such as a full disk, is a warning, and an error only if it was the last such save's.
            False, outside of :meth:`of_fit`: the caller gets the error. What removes another file when its own is
            written, as Lightning's ``ModelCheckpoint`` does, has to know.
    """

    def __init__(self) -> None:
        self.asynchronous = False
        self.goes_on = False
        self._together: tuple[Path, ...] = ()
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None
        self._failure: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save; the interface is Lightning's."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        self.wait()
        state = snapshot(checkpoint) if self.asynchronous else checkpoint
        self._do(self._attempt(partial(_write, state, Path(path)), Path(path)))

    def begin(self) -> None:
        """Wait for the save before, and forget whether it failed."""
        self.wait()
        self._failure = None

    @contextmanager
    def of_fit(self, path: Path, asynchronous: bool = False) -> Iterator[None]:
        """Saves of ``path`` in here may fail without ending the fit, and be written in the background.

        Every process of the fit enters it. A :class:`~vlad_lightning.checkpoints.ranks.SaveFailedError`, which is the
        same on all, ends here.
        """
        before = self.asynchronous, self.goes_on
        self.asynchronous, self.goes_on = asynchronous, True
        try:
            yield
        except SaveFailedError as error:
            self._note(error, path)
        finally:
            self.asynchronous, self.goes_on = before

    def after_save(self, action: Callable[[], None], path: Path) -> None:
        """Do what follows a save of ``path``: when it is written, and if it could be."""
        before = self._pending

        def follow() -> None:
            if before is not None:
                before.result()  # one thread: it has ended
            if self._failure is None:
                attempt()

        attempt = self._attempt(action, path)
        self._do(follow)

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            BaseException: what the thread met with, other than what ``goes_on`` lets pass.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    @property
    def failed(self) -> bool:
        """Whether the last save :meth:`of_fit` that has ended could not be written."""
        return self._failure is not None

    def load_together(self, first: Path, own: Path) -> None:
        """Have all processes of a fit load one checkpoint, which one process of each node compares with its checksum.

        Args:
            first: what the first process has found and verified.
            own: what this one has found, perhaps by its name alone; loading it loads ``first``.
        """
        self._together = first, own

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Load what is whole; the interface is Lightning's. A folder, which a sharded run wrote, is read as a file is.

        Never unpickles code, whatever ``weights_only`` says.

        Raises:
            DamagedError: where the file is truncated or changed.
            FileNotFoundError: where there is none.
            ValueError: for an address; also where another process of :meth:`load_together` met with such an error.
        """
        refuse_address(path)
        path = Path(path)
        if path in self._together:
            path = self._together[0]
            on_each_node(partial(verify, path))
        else:
            verify(path)
        if is_folder_checkpoint(path):
            return read_checkpoint(path)
        return dict(super().load_checkpoint(path, map_location, weights_only=True))

    def teardown(self) -> None:
        """Wait for the thread.

        Raises:
            OSError: where the last save failed.
        """
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            self._thread = None
            failure, self._failure = self._failure, None
        if failure is not None and sys.exc_info()[0] is None:  # what ended the fit is not hidden behind it
            raise OSError(f"the last checkpoint could not be written: {failure}") from failure

    def _do(self, action: Callable[[], None]) -> None:
        if not self.asynchronous:
            action()
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending = self._thread.submit(action)

    def _attempt(self, action: Callable[[], None], path: Path) -> Callable[[], None]:
        """``action`` as it is to be done: ``goes_on`` is that of now, also where a thread does it later."""
        return partial(self._guarded, action, path) if self.goes_on else action

    def _guarded(self, action: Callable[[], None], path: Path) -> None:
        try:
            action()
        except OSError as error:
            self._note(error, path)

    def _note(self, error: OSError, path: Path) -> None:
        self._failure = error
        rank_zero_warn(
            f"a checkpoint could not be written to {path.parent} ({_free(path.parent)}): {error}. Training goes on, "
            "the checkpoints before are kept"
        )


def _free(folder: Path) -> str:
    """What is left on the disk of ``folder``, which may not be there any more."""
    for directory in (folder, *folder.parents):
        with suppress(OSError):
            return f"{shutil.disk_usage(directory).free / 1e9:.1f} GB free"
    return "what is free is not known"


def snapshot(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A copy in the CPU's memory that nobody else changes; what shared its storage shares the copy's.

    Args:
        checkpoint: dicts, lists and tuples of plain values and of tensors on any device.
    """
    storages: dict[int, torch.UntypedStorage] = {}
    copies: dict[int, Any] = {}
    for tensor in _tensors(checkpoint):
        if type(tensor) is not Tensor or tensor.layout != torch.strided or tensor.is_quantized:
            continue  # deepcopy knows them
        storage = tensor.untyped_storage()
        key = storage_id(tensor)
        if key not in storages:
            storages[key] = storage.clone() if storage.device.type == "cpu" else storage.cpu()
        empty = torch.empty(0, dtype=tensor.dtype)
        copies[id(tensor)] = empty.set_(storages[key], tensor.storage_offset(), tensor.size(), tensor.stride())
    return copy.deepcopy(checkpoint, copies)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _write(checkpoint: dict[str, Any], target: Path) -> None:
    with checksum_file(target) as file:
        torch.save(checkpoint, cast("IO[bytes]", file))
