"""The training and the test of a cascade: its tokenizer is learned from the captions first."""

from __future__ import annotations

from typing import cast

from vlad_lightning.baselines.cascade import Cascade
from vlad_lightning.baselines.module import BaselineModule
from vlad_lightning.data.datamodule import MarioDataModule

_MOST_CAPTIONS = 50_000


class CascadeModule(BaselineModule):
    """A cascade that is trained, tested and used to predict, see :class:`~vlad_lightning.baselines.BaselineModule`.

    A fit without a tokenizer trains one on the training captions; a checkpoint holds it.
    """

    def setup(self, stage: str) -> None:
        """Check the data, and train a tokenizer if there is none.

        Raises:
            ValueError: see :meth:`~vlad_lightning.baselines.module.BaselineModule.setup`.
        """
        super().setup(stage)
        encoder = cast(Cascade, self.baseline).text_encoder
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and encoder.tokenizer is None and isinstance(data, MarioDataModule):
            encoder.learn_words(data.captions(_MOST_CAPTIONS))

    def on_train_start(self) -> None:
        """Refuse a text encoder that has no tokenizer by now.

        Raises:
            ValueError: naming it.
        """
        super().on_train_start()
        if cast(Cascade, self.baseline).text_encoder.tokenizer is None:
            raise ValueError("model.baseline.text_encoder has no tokenizer; give it a checkpoint (--ckpt_path)")

    # before these, a checkpoint has been loaded; before on_fit_start, not always
    on_validation_start = on_test_start = on_predict_start = on_train_start
