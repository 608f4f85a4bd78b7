"""Checks that a stage's data, earlier checkpoints and published weights exist; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from vlad_lightning.cli.doctor.check import Check
from vlad_lightning.data.remote_path import Place, RemotePath, is_url
from vlad_lightning.files import configs_folder, find_config


def read_config(files: Sequence[str], out: str | None, data: str | None) -> dict[str, Any]:
    """Read the configuration that a command would see from its files alone.

    Args:
        files: the files as after ``--config``; later files override earlier ones, lists are replaced, or extended by
            ``key+``.
        out: replaces the files' ``out``.
        data: replaces their ``data.root``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a file is not a YAML mapping.
    """
    merged: dict[str, Any] = {}
    for path in (configs_folder() / "base.yaml", *map(find_config, files)):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a YAML file: {error}") from error
        if not isinstance(content, Mapping):
            raise ValueError(f"{path}: must be a mapping")
        merged = _over(merged, content)
    merged["out"] = out or merged.get("out", "runs/default")
    if data:
        merged = _over(merged, {"data": {"init_args": {"root": data}}})
    return merged


def check_sources(config: Mapping[str, Any]) -> list[Check]:
    """Return a check for each folder, checkpoint and hub repository that the configuration names."""
    checks = list(_data(config.get("data", {}).get("init_args", {}), config))
    for entry in _objects(config):
        kind, settings = str(entry["class_path"]).rpartition(".")[2], entry.get("init_args", {})
        if kind == "InitFrom" or "checkpoint" in settings:
            path = Path(_filled(settings.get("checkpoint"), config))
            checks.append(_there("checkpoint", path, path.exists(), "train the earlier stage first, or copy it"))
        elif "source" in settings:
            checks.append(_published(_filled(settings["source"], config), settings.get("revision")))
        elif "revision" in settings and "model" in settings:
            checks.append(_published(str(settings["model"]), settings["revision"]))
    return list(dict.fromkeys(checks))


def _filled(text: Any, config: Mapping[str, Any]) -> str:
    return str(text).replace("{out}", str(config["out"])).replace("{stage}", str(config.get("stage", "fit")))


def _data(settings: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Check]:
    for key in ("root", "test_root", "index", "file"):
        value = settings.get(key)
        if value and value != "-":
            text = _filled(value, config)
            if is_url(text):
                from vlad_lightning.data.prepared_source import NOTE  # slow to import

                note = RemotePath(text) / NOTE
                yield _there(f"data.{key}", note, note.exists(), "check the address, the network and the credentials")
                continue
            path = Path(text)
            yield _there(f"data.{key}", path, path.exists(), f"give the right one with --data.{key}, or mount it")


def _published(source: str, revision: str | None) -> Check:
    if Path(source).exists():
        return Check("weights", "ok", source)
    try:
        repositories = [r for r in scan_cache_dir().repos if r.repo_id == source]
    except CacheNotFound:
        repositories = []
    commits = {commit.commit_hash for r in repositories for commit in r.revisions}
    found = revision in commits if revision else bool(commits)
    where = f"{source}{f' at {revision[:12]}' if revision else ''}"
    pinned = f" --revision {revision}" if revision else ""
    advice = f"where the hub can be reached: hf download {source}{pinned}; HF_HOME has to be shared"
    return Check("weights", "ok", f"{where}, in the hub's cache") if found else _missing("weights", where, advice)


def _there(name: str, path: Place, found: bool, advice: str) -> Check:
    return Check(name, "ok", str(path)) if found else _missing(name, str(path), advice)


def _missing(name: str, what: str, advice: str) -> Check:
    return Check(name, "fail", f"{what} is not there", advice)


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping with a ``class_path``."""
    if isinstance(value, Mapping):
        if "class_path" in value:
            yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        if key.endswith("+"):
            merged[key[:-1]] = [*(merged.get(key[:-1]) or []), *(value if isinstance(value, list) else [value])]
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _over(merged[key], value)
        else:
            merged[key] = value
    return merged
