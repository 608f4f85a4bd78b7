"""``vlad-cli export --evaluation``: the evaluation encoder and the object detector as a folder without checkpoints."""

from __future__ import annotations

from pathlib import Path

from vlad_lightning import __version__
from vlad_lightning.files import write_text
from vlad_lightning.metrics.evaluation_weights import DETECTOR, ENCODER, EvaluationWeights, read_weights, write_weights
from vlad_lightning.models.number_format import DTYPES

_README = """\
# {name}

The evaluation encoder and the object detector of vlad-lightning {version}: they measure generated images, and are used
for no training. Licence: Apache-2.0.

```yaml
evaluation_encoder: {{checkpoint: {name}, ...}}        # with the architecture, as in configs/rich/test.yaml
objects: {{init_args: {{checkpoint: {name}, ...}}}}
```

The weights are stored as {dtype} and used as float32.

| from | SHA-256 |
|---|---|
| encoder | `{encoder}` |
| detector | `{detector}` |
"""


def write_evaluation(name: str, encoder: Path, detector: Path, folder: Path, dtype: str) -> None:
    """Write the weights of both evaluation models into a new folder.

    Args:
        name: the name that the folder gets.
        encoder: checkpoint of a stage-0 run.
        detector: checkpoint of an object detector's run.
        folder: the folder, which exists and is empty.
        dtype: name of the format of the weights.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if a checkpoint is damaged, is of another stage, or does not fit the format.
    """
    found: dict[str, EvaluationWeights] = {
        model: read_weights(str(path), model) for model, path in ((ENCODER, encoder), (DETECTOR, detector))
    }
    for model, weights in found.items():
        write_weights(weights, folder / model, DTYPES[dtype])
    hashes = {model: weights.sha256 for model, weights in found.items()}
    write_text(folder / "README.md", _README.format(name=name, version=__version__, dtype=dtype, **hashes))
