"""The phrase map: composed phrases t_i of Eq. 2 drawn into their boxes, as the rasterizer draws words (Eq. 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from vlad_lightning.layout.masks import box_coordinates, fills_frame
from vlad_lightning.layout.patterns import CONTRAST, usual_patterns
from vlad_lightning.models.autoencoder import Autoencoder
from vlad_lightning.models.painter.rows import split_rows

_POSITION_CHANNELS = 3  # across, down, and coverage
_SMALLEST = 1e-3  # side of a box, as a share of the frame's
_OPAQUE = 2.0  # initial opacity before the sigmoid, after which it is 0.88


@dataclass(frozen=True)
class Grounding:
    """The phrases of ``B`` prompts and their boxes.

    Attributes:
        phrases: (B, K, D) float: composed t_i.
        boxes: (B, K, 5) float32: centre and size in fractions of the frame, and the angle in radians.
        mask: (B, K) bool: which phrases have a box; the others are not drawn.
        counts: (B, K) int64: how many objects each phrase counts, whose box is around all of them; None is 1 for all.
        colours: (B, K, 4) float32: red, green and blue in [-1, 1] of the colour that a phrase names, and a 1 where it
            names one; None if no phrase does.
        patterns: (B, K) int64: the pattern that a phrase names, 1 for the first of
            :data:`~vlad_lightning.layout.patterns.PATTERNS`, and 0 for none; None if no phrase names one.
        grounds: (B, 4) float32: red, green and blue in [-1, 1] of the ground of a prompt of which nothing says what it
            is, and a 1 for such prompts; None if there is none.
    """

    phrases: Tensor
    boxes: Tensor
    mask: Tensor
    counts: Tensor | None = None
    colours: Tensor | None = None
    patterns: Tensor | None = None
    grounds: Tensor | None = None


class PhraseMap(ModelMixin, ConfigMixin):
    """A learned stamp for each grounded phrase, stretched into its box: the part of z_t for the objects.

    A small network turns t_i into a stamp of ``side`` x ``side`` cells, with an opacity for each, through which the
    phrase beneath is seen. The stamp is stretched over the phrase's box, rotated with it, and pasted into the frame
    with smooth edges; further channels hold the box's own coordinates, from -1 to 1 across and down, and the coverage.
    Of boxes that overlap, the smaller one is on top. The first channels of a stamp can be trained to show what the
    phrase looks like (``map_weight`` of :class:`~vlad_lightning.modules.settings.LossSettings`).

    A stamp has either latent channels, pasted at the latent's size, or, as a ``picture``, the colours of pixels: these
    are pasted at the image's size, and the autoencoder encodes the whole as it encodes the glyph map. Between the
    cells of a latent nothing can be interpolated, so only pictures keep outlines that are finer than a cell. A second
    picture has the silhouettes, white on black: a phrase without a colour has a grey stamp, which may be as grey as
    what it stands on. The stamp of a picture also depends on the ratio of the box's sides, since three fish in a row
    and in a column are said alike.

    With ``named_colours``, the stamp of a phrase that names a colour has that colour all over, and the network draws
    its opacity only.

    With ``named_patterns``, the stamp of a phrase that fills the frame, a background, is darker and lighter where the
    pattern that it names is. A stamp has too few cells to draw stripes.

    With ``coloured_letters``, the letters of words whose colour is told are drawn into the picture, over the stamps: it
    then says of letters what it says of objects, at the places of the pixels.

    With ``usual_grounds``, the picture of a prompt that tells no ground is drawn on the usual one
    (:func:`~vlad_lightning.layout.usual_ground.usual_ground`), in the place of gray, which is what a map says of
    nothing.

    With ``rows``, a phrase that counts its objects (``three red fish``) has a stamp for one of them, and its box is a
    row of such stamps (:mod:`~vlad_lightning.models.painter.rows`). Without, the stamp is of the whole row.

    Args:
        text_width: D of the phrases.
        channels: channels of a stamp; of a picture, 3 for any value.
        side: side of a stamp, in cells.
        width: width of the network's hidden layer.
        picture: whether stamps are pictures.
        opacity_side: side of a stamp's opacity, in cells; None is ``side``. Outlines need more cells than colours do.
        rows: whether a phrase that counts its objects is a row of stamps.
        named_colours: whether the colour that a phrase names replaces that of its stamp; only of pictures.
        coloured_letters: whether pictures have the letters whose colour is told; only of pictures.
        named_patterns: whether backgrounds have the pattern that their phrase names; only of pictures.
        usual_grounds: whether pictures have the usual ground where none is told; only of pictures.

    Raises:
        ValueError: for ``named_colours``, ``coloured_letters``, ``named_patterns`` or ``usual_grounds`` without
            ``picture``.
    """

    @register_to_config
    def __init__(
        self,
        text_width: int,
        channels: int = 16,
        side: int = 8,
        width: int = 256,
        picture: bool = False,
        opacity_side: int | None = None,
        rows: bool = False,
        named_colours: bool = False,
        coloured_letters: bool = False,
        named_patterns: bool = False,
        usual_grounds: bool = False,
    ) -> None:
        super().__init__()
        of_pictures = {
            "named_colours": named_colours,
            "coloured_letters": coloured_letters,
            "named_patterns": named_patterns,
            "usual_grounds": usual_grounds,
        }
        for name, value in of_pictures.items():
            if value and not picture:
                raise ValueError(f"{name} is true; it needs picture: true, since a latent has no colours to replace")
        self.channels = 3 if picture else channels
        self._opacity_side = opacity_side or side
        coloured, opaque = self.channels * side**2, self._opacity_side**2
        hidden, stamp = nn.Linear(text_width + picture, width), nn.Linear(width, coloured + opaque + rows)
        nn.init.constant_(stamp.bias[coloured : coloured + opaque], _OPAQUE)
        self.draw = nn.Sequential(nn.LayerNorm(text_width), hidden, nn.GELU(), stamp)

    @property
    def out_channels(self) -> int:
        """Channels of the map: the stamps', the silhouettes of pictures, and the three of the boxes' coordinates."""
        return self.channels + self._silhouettes + _POSITION_CHANNELS

    def encoded_channels(self, latent_channels: int) -> int:
        """Return the map's channels in z_t, where each of the two pictures has the latent's."""
        return (2 * latent_channels if self.config.picture else self.channels) + _POSITION_CHANNELS

    def encode(
        self,
        grounding: Grounding,
        autoencoder: Autoencoder,
        image_size: tuple[int, int],
        latent_size: tuple[int, int],
        letters: Tensor | None = None,
    ) -> Tensor:
        """Draw the map as a part of z_t.

        Args:
            grounding: the grounded phrases of B prompts.
            autoencoder: encodes pictures.
            image_size: H and W in pixels, at which pictures are drawn.
            latent_size: h and w of the latent.
            letters: (B, 4, H, W) float, red, green and blue in [-1, 1] and the opacity in [0, 1] of the letters to
                draw over the stamps; None draws none.

        Returns:
            (B, C, h, w) float, where C is :meth:`encoded_channels`: the stamps, the silhouettes of pictures, and the
            boxes' coordinates.
        """
        if not self.config.picture:
            return self(grounding, latent_size)
        drawn = self(grounding, image_size)
        picture, silhouettes, places = drawn.split([self.channels, 1, _POSITION_CHANNELS], dim=1)
        if letters is not None:
            colours, opacity = letters.to(picture).split([3, 1], dim=1)
            picture = picture.lerp(colours, opacity.expand_as(colours))
        white_on_black = (2 * silhouettes - 1).expand_as(picture)
        encoded = [autoencoder.encode_images(each) for each in (picture, white_on_black)]
        return torch.cat([*encoded, F.adaptive_avg_pool2d(places, latent_size)], dim=1)

    def forward(self, grounding: Grounding, size: tuple[int, int]) -> Tensor:
        """Draw the map.

        Args:
            grounding: the grounded phrases of B prompts.
            size: h and w of the map.

        Returns:
            (B, out_channels, h, w) float32; zero, or the usual ground, where no phrase is drawn.
        """
        ordered = _smallest_last(grounding)
        colours, opacity, ratios = self._stamps(ordered, size[1] / size[0])
        solid = ~fills_frame(ordered.boxes)  # a background has no silhouette, and hides none: it is the largest
        if self.config.named_colours and ordered.colours is not None:
            named = ordered.colours[..., 3] > 0
            fill = ordered.colours[..., :3, None, None].to(colours)
            colours = torch.where(named[..., None, None, None], fill, colours)
        patterns = self._patterns(ordered, solid, size)
        canvas = colours.new_zeros(len(colours), self.out_channels, *size)
        if self.config.usual_grounds and ordered.grounds is not None:
            canvas[:, : self.channels] = (ordered.grounds[:, :3] * ordered.grounds[:, 3:])[..., None, None]
        with torch.autocast(colours.device.type, enabled=False):  # bfloat16 would move the edges
            across, down, cover = box_coordinates(ordered.boxes, size)
            if ratios is not None and ordered.counts is not None:
                sides = ordered.boxes[..., 2:4].clamp(min=_SMALLEST) * ordered.boxes.new_tensor((size[1], size[0]))
                across, down, cover = split_rows(across, down, cover, sides, ordered.counts, ratios)
            cover = cover * ordered.mask[..., None, None]
            for k in range(colours.shape[1]):
                grid = torch.stack([across[:, k], down[:, k]], dim=-1)  # (B, h, w, 2)
                stamp, share = (
                    F.grid_sample(part[:, k], grid, padding_mode="border", align_corners=False)
                    for part in (colours, opacity)
                )
                if patterns is not None:
                    brightness, contrast = patterns
                    stamp = stamp.lerp(brightness[:, k, None], contrast[:, k, None, None, None])
                inside = torch.stack([across[:, k], down[:, k], torch.ones_like(across[:, k])], dim=1).clamp(-1, 1)
                if self._silhouettes:
                    stamp = torch.cat([stamp, solid[:, k, None, None, None].to(stamp).expand_as(share)], dim=1)
                covered = cover[:, k, None]
                shares = torch.cat([(covered * share).expand_as(stamp), covered.expand_as(inside)], dim=1)
                canvas = canvas.lerp(torch.cat([stamp, inside], dim=1), shares)
        return canvas

    def _patterns(self, grounding: Grounding, solid: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
        """Return the patterns of backgrounds, (B, K, h, w) in [-1, 1], and their contrast, (B, K); None without any."""
        if not self.config.named_patterns or grounding.patterns is None:
            return None
        drawn = torch.from_numpy(usual_patterns(size).copy()).to(grounding.boxes)
        named = (grounding.patterns > 0) & ~solid
        return drawn[grounding.patterns.sub(1).clamp(min=0)], CONTRAST * named.to(drawn)

    @property
    def _silhouettes(self) -> int:
        """Channels of the silhouettes, before they are encoded."""
        return int(self.config.picture)

    def _stamps(self, grounding: Grounding, frame: float) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return stamps, (B, K, C, S, S) float32, their opacity in [0, 1], and an object's ratio, (B, K), or None.

        ``frame`` is the frame's width by its height.
        """
        side = self.config.side
        coloured = self.channels * side**2
        read = self.draw[0](grounding.phrases)
        if self.config.picture:
            across, down = grounding.boxes[..., 2:4].clamp(min=_SMALLEST).log().unbind(dim=-1)
            ratio = across - down + math.log(frame)
            if self.config.rows and grounding.counts is not None:  # a row's ratio says nothing of its objects
                ratio = ratio.masked_fill(grounding.counts > 1, 0.0)
            read = torch.cat([read, ratio[..., None].to(read)], dim=-1)
        drawn = self.draw[1:](read).float()
        colours = drawn[..., :coloured].unflatten(-1, (-1, side, side))
        if self.config.picture:
            colours = colours.tanh()
        ratios = drawn[..., -1].tanh().exp() if self.config.rows else None  # from 0.37 to 2.7
        opacity = drawn[..., coloured : coloured + self._opacity_side**2]
        return colours, opacity.unflatten(-1, (1, self._opacity_side, self._opacity_side)).sigmoid(), ratios


def _smallest_last(grounding: Grounding) -> Grounding:
    """Keep the drawn phrases, the largest of each row first; keep at least one, so that the weights are used."""
    boxes, mask = grounding.boxes.float(), grounding.mask
    area = torch.where(mask, boxes[..., 2] * boxes[..., 3], -1.0)
    most = max(1, int(mask.sum(dim=1).max()))
    order = area.argsort(dim=1, descending=True, stable=True)[:, :most]  # (B, most)
    row = torch.arange(len(boxes), device=boxes.device)[:, None]
    counts, colours, patterns = (
        None if each is None else each[row, order] for each in (grounding.counts, grounding.colours, grounding.patterns)
    )
    phrases = grounding.phrases[row, order]
    return Grounding(phrases, boxes[row, order], mask[row, order], counts, colours, patterns, grounding.grounds)
