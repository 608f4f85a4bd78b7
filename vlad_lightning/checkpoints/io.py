"""A checkpoint plugin whose files appear under their names only when whole; optionally writes in the background."""

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
    """A plugin that writes beside the target with a SHA-256, flushes and renames: a kill leaves the old checkpoint.

    Lightning collects a checkpoint in memory, writes it into the temporary folder and moves it, which across file
    systems is a copy under the final name. This plugin streams it, so a large checkpoint needs no second copy in
    memory. Loading verifies the checksum first, and never runs pickled code. Lightning itself handles saves to other
    file systems (``s3://``); nothing is loaded from there.

    Attributes:
        asynchronous: a save copies the state to the CPU's memory and returns; a thread writes it. One at a time: the
            next save waits. Lightning's ``AsyncCheckpointIO`` copies on the device, gives each of several tensors
            that share a storage a storage of its own (averages and frozen weights would be written twice), and lets
            saves queue up.
        goes_on: True turns an ``OSError`` of a save, such as a full disk, into a warning, and into an error at the end
            only if the last such save failed. False, outside :meth:`of_fit`: the caller gets the error. Callers that
            remove an older file after a save, as Lightning's ``ModelCheckpoint`` does, need it.
    """

    def __init__(self) -> None:
        self.asynchronous = False
        self.goes_on = False
        self._together: tuple[Path, ...] = ()
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None
        self._failure: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save a checkpoint; the interface is Lightning's."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        self.wait()
        state = snapshot(checkpoint) if self.asynchronous else checkpoint
        self._do(self._attempt(partial(_write, state, Path(path)), Path(path)))

    def begin(self) -> None:
        """Wait for the previous save, and forget whether it failed."""
        self.wait()
        self._failure = None

    @contextmanager
    def of_fit(self, path: Path, asynchronous: bool = False) -> Iterator[None]:
        """Let saves of ``path`` in this context fail without ending the fit, and be written in the background.

        Every process of the fit enters it. It catches a :class:`~vlad_lightning.checkpoints.ranks.SaveFailedError`,
        which is the same on all.
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
        """Run ``action`` after a save of ``path`` has been written; skip it if the save failed."""
        before = self._pending

        def follow() -> None:
            if before is not None:
                before.result()  # there is one thread, so it has ended
            if self._failure is None:
                attempt()

        attempt = self._attempt(action, path)
        self._do(follow)

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            BaseException: any error of the thread that ``goes_on`` does not turn into a warning.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    @property
    def failed(self) -> bool:
        """Whether the last finished save within :meth:`of_fit` failed."""
        return self._failure is not None

    def load_together(self, first: Path, own: Path) -> None:
        """Have all processes of a fit load one checkpoint, whose checksum one process of each node verifies.

        Args:
            first: the path that the first process has found and verified.
            own: the path that this process has found, perhaps unverified; loading it loads ``first``.
        """
        self._together = first, own

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Verify and load a checkpoint, a file or the folder of a sharded run; the interface is Lightning's.

        Never unpickles code, whatever ``weights_only`` says.

        Raises:
            DamagedError: if the checkpoint is truncated or changed.
            FileNotFoundError: if it does not exist.
            ValueError: for an address; also if another process of :meth:`load_together` got such an error.
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
        """Wait for the thread and end it.

        Raises:
            OSError: if the last save failed.
        """
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            self._thread = None
            failure, self._failure = self._failure, None
        if failure is not None and sys.exc_info()[0] is None:  # does not hide the error that ended the fit
            raise OSError(f"the last checkpoint could not be written: {failure}") from failure

    def _do(self, action: Callable[[], None]) -> None:
        if not self.asynchronous:
            action()
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending = self._thread.submit(action)

    def _attempt(self, action: Callable[[], None], path: Path) -> Callable[[], None]:
        """Wrap ``action`` according to the current ``goes_on``, which then also applies if a thread runs it later."""
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
            "the earlier checkpoints are kept"
        )


def _free(folder: Path) -> str:
    """Describe the free space on the disk of ``folder``, which may no longer exist."""
    for directory in (folder, *folder.parents):
        with suppress(OSError):
            return f"{shutil.disk_usage(directory).free / 1e9:.1f} GB free"
    return "free space unknown"


def snapshot(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return an independent copy in the CPU's memory; tensors that shared a storage share its copy.

    Args:
        checkpoint: dicts, lists and tuples of plain values and of tensors on any device.
    """
    storages: dict[int, torch.UntypedStorage] = {}
    copies: dict[int, Any] = {}
    for tensor in _tensors(checkpoint):
        if type(tensor) is not Tensor or tensor.layout != torch.strided or tensor.is_quantized:
            continue  # deepcopy copies them
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
