"""LightningModule of TextDiffuser's image generator."""

from __future__ import annotations

from typing import cast

from vlad_lightning.baselines.module import BaselineModule
from vlad_lightning.baselines.textdiffuser import TextDiffuser
from vlad_lightning.baselines.textdiffuser_segmenter_module import check_charseg


class TextDiffuserModule(BaselineModule):
    """Training and test of :class:`~vlad_lightning.baselines.textdiffuser.TextDiffuser`.

    Arguments are those of :class:`~vlad_lightning.baselines.module.BaselineModule`.
    """

    def setup(self, stage: str) -> None:
        """Refuse data that do not fit, see :meth:`BaselineModule.setup`; training needs maps of characters.

        Raises:
            ValueError: naming the setting or the data module.
        """
        super().setup(stage)
        if stage in ("fit", "validate"):
            check_charseg(self)
            if cast(TextDiffuser, self.baseline).segmenter is None:
                raise ValueError("model.baseline.segmenter is null; training needs the character segmenter")

    def _check_request(self, prompt: str, has_layout: bool, has_image: bool) -> None:
        super()._check_request(prompt, has_layout, has_image)
        if not has_layout:
            cast(TextDiffuser, self.baseline).check_prompt(prompt)
