"""The features of a segmentation that TextDiffuser's UNet gets beside the noised latent."""

from __future__ import annotations

from torch import Tensor, nn

_GROUP = 8  # channels per group of GroupNorm


class SegmentationFeatures(nn.Module):
    """An embedding of each pixel's character, and convolutions down to the size of a latent.

    Args:
        classes: rows of the embedding.
        channels: channels of the embedding and of the result.
        widths: channels of the convolutions between, each followed by a halving.
        batch_norm: normalise over the batch, as the published network does; otherwise over groups of channels, so that
            a sample does not depend on its batch.
    """

    def __init__(
        self, classes: int, channels: int = 8, widths: tuple[int, ...] = (32,), batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.channels, self.halvings = channels, len(widths)
        self.embedding = nn.Embedding(classes, channels)
        layers: list[nn.Module] = []
        before = channels
        for width in widths:
            norm = nn.BatchNorm2d(width) if batch_norm else nn.GroupNorm(width // _GROUP, width)
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), norm, nn.MaxPool2d(2)]
            before = width
        self.convolutions = nn.Sequential(*layers, nn.Conv2d(before, channels, 3, padding=1))

    def forward(self, characters: Tensor) -> Tensor:
        """Embed (B, H, W) int64 classes as (B, channels, h, w) float, h = H / 2 for each halving."""
        return self.convolutions(self.embedding(characters).permute(0, 3, 1, 2))
