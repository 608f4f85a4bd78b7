"""The types that the layers exchange: frozen dataclasses with a shape for each field.

Coordinates are fractions of the image's width and height: ``(0, 0)`` is the top left corner of the frame and ``(1, 1)``
the bottom right one. They may lie outside: MARIO's own quads do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NoReturn, Protocol, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

COSTLY_FIELDS = ("images", "glyphs")
"""The fields of :class:`Batch` that cost most to build; a data module builds only those that are asked for."""

LATENTS = "latents"
"""The field of :class:`Batch` that replaces :data:`COSTLY_FIELDS` where a data module has cached latents."""

FRAMES = "frames"
"""No field: who asks for it reads images of other frames than the square, see ``data.buckets``."""

_UNIT_CORNERS = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))  # clockwise on screen, from the top left


def _no_boxes() -> Tensor:
    return torch.zeros(0, 5)


@dataclass(frozen=True)
class Layout:
    """One rotated box for each word to draw and each grounded phrase.

    Attributes:
        words: the ``N`` words, in the order of the boxes.
        boxes: (N, 5) float32: centre x, centre y, width, height (fractions of the frame) and the angle in radians,
            clockwise on screen, in ``(-pi, pi]``.
        fonts: a font file per word, or one of the families :data:`~vlad_lightning.layout.fonts.FAMILIES`, None for the
            rasteriser's default; empty if every word uses the default.
        objects: the ``K`` phrases of the prompt that have a box, such as ``a red star``, spelt as in the prompt.
        object_boxes: (K, 5) float32: their boxes, in the format of ``boxes``.
        moved: how many boxes were moved after generation because they overlapped others or left the frame.
        colours: a colour per word, by a name or ``#rrggbb`` as :func:`~vlad_lightning.layout.colours.rgb_named` reads
            it, None where it is left to the image generator; empty if it is for every word.

    Raises:
        ValueError: if ``boxes`` is not (len(words), 5), ``object_boxes`` not (len(objects), 5), or ``fonts`` or
            ``colours`` is neither empty nor as long as ``words``.
    """

    words: tuple[str, ...]
    boxes: Tensor
    fonts: tuple[str | None, ...] = ()
    objects: tuple[str, ...] = ()
    object_boxes: Tensor = field(default_factory=_no_boxes)
    moved: int = 0
    colours: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        for name, texts, boxes in (
            ("boxes", self.words, self.boxes),
            ("object_boxes", self.objects, self.object_boxes),
        ):
            if tuple(boxes.shape) != (len(texts), 5):
                kind = "words" if name == "boxes" else "objects"
                raise ValueError(f"{name} has shape {tuple(boxes.shape)}; {len(texts)} {kind} need ({len(texts)}, 5)")
        for name in ("fonts", "colours"):
            entries = getattr(self, name)
            if entries and len(entries) != len(self.words):
                raise ValueError(f"{name} has {len(entries)} entries; {len(self.words)} words need one each, or none")

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def empty(cls) -> Layout:
        """Return a layout without words."""
        return cls((), torch.zeros(0, 5))

    @classmethod
    def from_quads(cls, words: Sequence[str], quads: Tensor) -> Layout:
        """Return the layout with the rotated box nearest to each quad.

        Args:
            words: the ``N`` words.
            quads: (N, 4, 2) float, corners in fractions of the frame, clockwise, from the corner at which the word
                starts (top left as the word is drawn, even if it is read from right to left). In float64, the round
                trip through :meth:`quads` of float64 boxes is exact to 1e-14.
        """
        rows = []  # by Python's numbers: an operation of torch on a few numbers takes as long as fifty of these
        for (x0, y0), (x1, y1), (x2, y2), (x3, y3) in quads.reshape(len(words), 4, 2).tolist():
            across = (x1 - x0 + x2 - x3) / 2, (y1 - y0 + y2 - y3) / 2  # along the reading direction
            down = (x3 - x0 + x2 - x1) / 2, (y3 - y0 + y2 - y1) / 2
            centre = (x0 + x1 + x2 + x3) / 4, (y0 + y1 + y2 + y3) / 4
            rows.append((*centre, math.hypot(*across), math.hypot(*down), math.atan2(across[1], across[0])))
        boxes = torch.tensor(rows, dtype=torch.float32, device=quads.device)
        return cls(tuple(words), boxes.reshape(len(words), 5))

    def quads(self) -> Tensor:
        """Return the corners, (N, 4, 2) in the boxes' dtype, clockwise from the one at which the word starts."""
        unit = self.boxes.new_tensor(_UNIT_CORNERS)
        x, y = (unit * self.boxes[:, None, 2:4]).unbind(-1)  # (N, 4) each
        cos, sin = self.boxes[:, 4:].cos(), self.boxes[:, 4:].sin()
        # no matrix product: autocast would round it to bfloat16, an error of two pixels in 512
        return torch.stack([cos * x - sin * y, sin * x + cos * y], -1) + self.boxes[:, None, :2]


class FieldNotBuilt:
    """What a sample or batch holds in the place of a field that nobody asked for: whoever uses it gets an error.

    Args:
        name: the field's name in :class:`Batch`.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: Any) -> NoReturn:
        raise ValueError(
            f"{self._name!r} was not built for this batch: the module does not read it; whoever does must ask for it "
            f"with MarioDataModule.ask_for({self._name!r}) in its setup"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # of pickle and copy
            raise AttributeError(name)
        self._refuse()

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        """Refuse: torch calls this where a tensor is expected."""
        next(found for found in _flat([args, kwargs or {}]) if isinstance(found, cls))._refuse()

    # no __iter__: Lightning, which looks for the batch size, passes over what is not iterable; a loop calls __getitem__
    __len__ = __getitem__ = __bool__ = __eq__ = __hash__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse


def not_built(name: str) -> Tensor:
    """Return a :class:`FieldNotBuilt`; no tensor, although the fields are annotated as tensors."""
    return cast(Tensor, FieldNotBuilt(name))


@dataclass(frozen=True)
class Latents:
    """What frozen networks have computed of a sample or, stacked, of ``B`` samples, in the dtype in which it is stored.

    Attributes:
        images: (C_z, h, w) or (B, C_z, h, w) float: the image's latent.
        glyphs: (C_z, h, w) or (B, C_z, h, w) float: the glyph map's latent; None without hierarchical guidance.
        no_glyphs: (C_z, h, w) float: the latent of a glyph map without words; None without hierarchical guidance.
        letters: (h, w) or (B, h, w) bool: where letters are, with a margin around them.
        embeddings: (D,) or (B, D) float: the image's embedding, for L_align; None without an image encoder.
    """

    images: Tensor
    glyphs: Tensor | None
    no_glyphs: Tensor | None
    letters: Tensor
    embeddings: Tensor | None

    @classmethod
    def collate(cls, samples: Sequence[Latents]) -> Latents:
        """Stack the latents of samples."""

        def stacked(name: str) -> Any:
            values = [getattr(sample, name) for sample in samples]
            return None if values[0] is None else torch.stack(values)

        names = ("images", "glyphs", "letters", "embeddings")
        return cls(**{name: stacked(name) for name in names}, no_glyphs=samples[0].no_glyphs)


@dataclass(frozen=True)
class Sample:
    """One poster of a data set.

    ``image`` and ``glyphs`` are a :class:`FieldNotBuilt` where they were not asked for.

    Attributes:
        key: its name, unique in the data set (``00000_000000000``).
        image: (3, H, W) float32 in [-1, 1].
        prompt: the caption; the words to draw are in quotes.
        layout: every word read on the image, in fractions of the frame.
        glyphs: (1, H, W) uint8: the layout as drawn by the rasteriser, white on black.
        word_boxes: (N, 5) float32: the box of each word to draw, in the prompt's order; ``N`` is ``max_words``.
        word_mask: (N,) bool: True where the prompt has such a word and its box is known.
        object_boxes: (K, 5) float32: the box of each object phrase, in the prompt's order; ``K`` is ``max_objects``.
        object_mask: (K,) bool: True where the prompt has such a phrase and its box is known.
        object_counts: (K,) int64: how many objects each phrase counts, whose box is around all of them; at least 1.
        scene_known: whether the data contain the objects' boxes; if so, a phrase without a box is known to have none.
        latents: the cached latents; None where they were not asked for.
    """

    key: str
    image: Tensor
    prompt: str
    layout: Layout
    glyphs: Tensor
    word_boxes: Tensor
    word_mask: Tensor
    object_boxes: Tensor
    object_mask: Tensor
    object_counts: Tensor
    scene_known: bool
    latents: Latents | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class ParsedPrompts:
    """``B`` prompts as a text encoder reads them: tokens in windows, and the tokens of each phrase.

    A prompt has up to ``K`` windows of ``L`` tokens and ``M`` slots for phrases: the first ``N`` for words to draw, the
    others for objects. Nothing here depends on weights.

    Attributes:
        ids: (R, L) int64: the tokens of every window that a prompt has, prompt by prompt.
        mask: (R, L) bool: False at the padding.
        rows: (R,) int64 in [0, B K): the index of each of these windows among all B K.
        windows: (B, K) bool: which windows a prompt has; the first is always True.
        token_mask: (B, K L) bool: ``mask`` with the windows side by side.
        read_mask: (B, K L) bool: the token states an image generator may attend to; None means all.
        inside: (B, M, K L) bool: the tokens that belong to each phrase.
        phrase_mask: (B, M) bool: True where there is a phrase.
        order: (B, M) int64 in [0, M): each phrase's rank in the prompt; absent phrases come last.
        word_groups: (B, N, 2) int64: the quoted span of each word and its rank in it, zero where there is no word.
        letters: (S, C) int64: the bytes of each distinct word that is spelt, padded with 256; at least one row.
        spelt: (T,) int64 in [0, S): the words of all phrases, one after the other, as rows of ``letters``.
        spelt_at: (T,) int64 in [0, B M): the phrase of each of these words.
        most_phrases: at least the most phrases that a prompt has, at most M: known on the CPU, so that no device has to
            be asked for it.
    """

    ids: Tensor
    mask: Tensor
    rows: Tensor
    windows: Tensor
    token_mask: Tensor
    read_mask: Tensor | None
    inside: Tensor
    phrase_mask: Tensor
    order: Tensor
    word_groups: Tensor
    letters: Tensor
    spelt: Tensor
    spelt_at: Tensor
    most_phrases: int

    def __len__(self) -> int:
        return len(self.windows)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ParsedPrompts:
        """Return the prompts on ``device``."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class PhrasePairs:
    """The single phrases that stage 0 trains in a batch, each as its text's index and its index in the text's ``M``.

    Attributes:
        named: (P, 2) int64: every phrase of the B prompts.
        placed: (K, 2) int64: those phrases whose box is known.
        boxes: (K, 5) float32: the boxes of ``placed``.
        untrue: (E, 2) int64: phrases of the edited captions that describe such a box differently from the prompt.
    """

    named: Tensor
    placed: Tensor
    boxes: Tensor
    untrue: Tensor


@dataclass(frozen=True)
class Negatives:
    """The negatives of stage 0 for the images of ``B`` samples, besides the prompts of the other samples.

    Attributes:
        step: the optimizer step for which they were drawn.
        texts: B H captions with one change each, those of the first prompt first; empty without edits.
        parsed: the B prompts followed by the B H ``texts``, parsed.
        pairs: the single phrases to train; None if none are trained.
    """

    step: int
    texts: tuple[str, ...]
    parsed: ParsedPrompts
    pairs: PhrasePairs | None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Negatives:
        """Return the negatives on ``device``."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class Batch:
    """``B`` samples; the fields are those of :class:`Sample`, stacked.

    ``images`` and ``glyphs`` are a :class:`FieldNotBuilt` where they were not asked for.

    Attributes:
        keys: B names.
        images: (B, 3, H, W) float32 in [-1, 1].
        prompts: B captions.
        layouts: B layouts, always on the CPU.
        glyphs: (B, 1, H, W) uint8; :func:`~vlad_lightning.layout.glyphs.glyph_images` turns them into images.
        word_boxes: (B, N, 5) float32.
        word_mask: (B, N) bool.
        object_boxes: (B, K, 5) float32.
        object_mask: (B, K) bool.
        object_counts: (B, K) int64.
        scene_known: (B,) bool.
        spare: True for a repeated batch that only keeps a device in step with the others; its samples do not count.
        parsed: the prompts, parsed by the data loader; None if that was not requested.
        negatives: the negatives of stage 0's training; None elsewhere.
        latents: the cached latents; None where they were not asked for.
    """

    keys: tuple[str, ...]
    images: Tensor
    prompts: tuple[str, ...]
    layouts: tuple[Layout, ...]
    glyphs: Tensor
    word_boxes: Tensor
    word_mask: Tensor
    object_boxes: Tensor
    object_mask: Tensor
    object_counts: Tensor
    scene_known: Tensor
    spare: bool = False
    parsed: ParsedPrompts | None = None
    negatives: Negatives | None = None
    latents: Latents | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def texts(self) -> tuple[str, ...] | ParsedPrompts:
        """The prompts as input of a prompt encoder: ``parsed`` if it is set, else the strings."""
        return self.prompts if self.parsed is None else self.parsed

    @property
    def counted(self) -> int:
        """The number of samples that count in a mean: B, or 0 for a spare batch."""
        return 0 if self.spare else len(self)

    @classmethod
    def collate(cls, samples: Sequence[Sample]) -> Batch:
        """Stack samples; a DataLoader's ``collate_fn``."""
        return cls(
            keys=tuple(s.key for s in samples),
            images=_stacked([s.image for s in samples]),
            prompts=tuple(s.prompt for s in samples),
            layouts=tuple(s.layout for s in samples),
            glyphs=_stacked([s.glyphs for s in samples]),
            word_boxes=torch.stack([s.word_boxes for s in samples]),
            word_mask=torch.stack([s.word_mask for s in samples]),
            object_boxes=torch.stack([s.object_boxes for s in samples]),
            object_mask=torch.stack([s.object_mask for s in samples]),
            object_counts=torch.stack([s.object_counts for s in samples]),
            scene_known=torch.tensor([s.scene_known for s in samples]),
            latents=Latents.collate(latents) if (latents := [s.latents for s in samples if s.latents]) else None,
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch with its stacked tensors on ``device``; Lightning calls this."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch with its stacked tensors in pinned memory; a DataLoader calls this."""
        return _map_tensors(self, Tensor.pin_memory)


@dataclass(frozen=True)
class PromptBatch:
    """Prompts for ``predict``, each with an optional layout and an optional image to inpaint.

    A prompt with an image has a mask, a layout or both: without a mask the region is around the layout's boxes.
    Everything stays on the CPU.

    Attributes:
        keys: B names, used for the files that are written.
        prompts: B prompts.
        layouts: B layouts to draw, None for a layout to be generated; empty if all are to be generated.
        images: B images to inpaint, each (3, H, W) float32 in [-1, 1] and of any size, None for a prompt without an
            image; empty if there is none.
        masks: B regions, each (1, H, W) bool of its image's size, True where it is generated, or None; empty if there
            is none.
        sources: B texts that say where a prompt was read, for error messages; empty if that is not known.
        noise_keys: B names of the noise (:func:`~vlad_lightning.diffusion.generators.numbered`) that do not depend on
            a prompt's position in a list; empty if ``keys`` name the noise.
        spare: True for a repeated batch that only keeps a device in step with the others; another device writes it.

    Raises:
        ValueError: if one of the five fields after ``prompts`` is neither empty nor as long as ``prompts``.
    """

    keys: tuple[str, ...]
    prompts: tuple[str, ...]
    layouts: tuple[Layout | None, ...] = ()
    images: tuple[Tensor | None, ...] = ()
    masks: tuple[Tensor | None, ...] = ()
    sources: tuple[str, ...] = ()
    noise_keys: tuple[tuple[int | str, ...], ...] = ()
    spare: bool = False

    def __post_init__(self) -> None:
        for name in ("layouts", "images", "masks", "sources", "noise_keys"):
            count = len(getattr(self, name))
            if count not in (0, len(self)):
                raise ValueError(f"{name} has {count} entries; {len(self)} prompts need one each, or none")

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class Conditioning:
    """The text condition: the composition t of Eq. 2, in the three forms that its users need.

    Attributes:
        pooled: (B, D) float: t as one vector, for Eq. 3 and Eq. 7.
        phrases: (B, 1 + M, D) float: the composed [t_g; t_1..t_M]; the words to draw come first among the t_i.
        phrase_mask: (B, 1 + M) bool: True where there is a phrase.
        tokens: (B, L, D) float: the token states the image generator attends to.
        token_mask: (B, L) bool.
        words: (B, N, D) float: the composed phrases of the words to draw, zero where there is none.
        word_mask: (B, N) bool.
        read_mask: (B, L) bool: the token states the image generator may attend to; None means all of them.
        text_embeds: (B, E) float: what SDXL's UNet adds to its time embedding; None for other encoders.
        word_groups: (B, N, 2) int64: which of the prompt's quoted phrases each word belongs to, and its rank in it;
            None if each word is a separate phrase.
    """

    pooled: Tensor
    phrases: Tensor
    phrase_mask: Tensor
    tokens: Tensor
    token_mask: Tensor
    words: Tensor
    word_mask: Tensor
    read_mask: Tensor | None = None
    text_embeds: Tensor | None = None
    word_groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    @property
    def objects(self) -> Tensor:
        """(B, K, D) float: the composed phrases that are not drawn as words, zero where there is none."""
        return self.phrases[:, 1 + self.words.shape[1] :] * self.object_mask[..., None]

    @property
    def object_mask(self) -> Tensor:
        """(B, K) bool: True where there is such a phrase."""
        return self.phrase_mask[:, 1 + self.words.shape[1] :]

    def where(self, keep: Tensor, other: Conditioning) -> Conditioning:
        """Return, row by row, this conditioning where ``keep`` (B,) is True and ``other`` elsewhere."""

        def choose(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(keep.view(-1, *[1] * (mine.ndim - 1)), mine, theirs)

        return _by_field(choose, (self, other))

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """Return the rows of every part, in order."""
        return _by_field(lambda *values: torch.cat(values), parts)

    def padded(self, length: int) -> Conditioning:
        """Return a copy padded to ``length`` token states; the added ones are masked, and nothing attends to them."""
        more = length - self.tokens.shape[1]
        read = torch.ones_like(self.token_mask) if self.read_mask is None else self.read_mask
        tokens = F.pad(self.tokens, (0, 0, 0, more))
        return replace(
            self, tokens=tokens, token_mask=F.pad(self.token_mask, (0, more)), read_mask=F.pad(read, (0, more))
        )

    def with_phrases_as_tokens(self) -> Conditioning:
        """Return a copy with the composed phrases after the token states; the image generator attends to both."""
        read = torch.ones_like(self.token_mask) if self.read_mask is None else self.read_mask
        return replace(
            self,
            tokens=torch.cat([self.tokens, self.phrases.to(self.tokens)], dim=1),
            token_mask=torch.cat([self.token_mask, self.phrase_mask], dim=1),
            read_mask=torch.cat([read, self.phrase_mask], dim=1),
        )

    def expand(self, size: int) -> Conditioning:
        """Repeat a single row ``size`` times."""
        return _map_tensors(self, lambda x: x.expand(size, *x.shape[1:]))


@dataclass(frozen=True)
class MaskedImages:
    """Images in which a region is to be generated while the other pixels are kept.

    Attributes:
        images: (B, 3, H, W) float32 in [-1, 1]; the pixels in the region are never used.
        masks: (B, 1, H, W) bool: True in the region that is generated.

    Raises:
        ValueError: if the masks do not fit the images.
    """

    images: Tensor
    masks: Tensor

    def __post_init__(self) -> None:
        size, _, *frame = self.images.shape
        if tuple(self.masks.shape) != (size, 1, *frame) or self.masks.dtype != torch.bool:
            raise ValueError(
                f"masks is {self.masks.dtype} {tuple(self.masks.shape)}; images of {tuple(self.images.shape)} need "
                f"torch.bool {(size, 1, *frame)}"
            )

    @classmethod
    def cat(cls, parts: Sequence[MaskedImages]) -> MaskedImages:
        """Return the images of every part, in order; they must have one size."""
        return cls(torch.cat([part.images for part in parts]), torch.cat([part.masks for part in parts]))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MaskedImages:
        """Return the images and masks on ``device``."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class GeneratedImages:
    """The images that a system generates for ``B`` prompts.

    Attributes:
        images: (B, 3, H, W) float32 in [-1, 1].
        layouts: B layouts, one word per box.
        glyphs: (B, 3, H, W) float32 in [-1, 1]: the rasterised layouts, white on black.
        prompts: B prompts.
        keys: B names.
        pictures: B results of inpainting, each (3, H, W) float32 in [-1, 1] on the CPU with the size of the image that
            was inpainted, or of ``images`` for a prompt without one; empty if nothing was inpainted.
    """

    images: Tensor
    layouts: tuple[Layout, ...]
    glyphs: Tensor
    prompts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    pictures: tuple[Tensor, ...] = ()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GeneratedImages:
        """Return a copy with the images and glyphs on ``device``."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))

    def named(self, keys: Sequence[str]) -> GeneratedImages:
        """Return a copy with these names."""
        return replace(self, keys=tuple(keys))

    def within(self, pictures: Sequence[Tensor]) -> GeneratedImages:
        """Return a copy with these results of inpainting."""
        return replace(self, pictures=tuple(pictures))


_Settings = TypeVar("_Settings", contravariant=True)


class TextToImage(Protocol[_Settings]):
    """A text-to-image system to test, compare or export, ours or another's.

    Each system defines its own settings.
    """

    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: _Settings,
        generators: Sequence[torch.Generator],
    ) -> GeneratedImages:
        """Generate images for ``B`` prompts.

        Args:
            prompts: B prompts; the words to draw are in quotes.
            layouts: B layouts, None where the system places the words itself; None leaves all of them to it. A system
                that does not use layouts refuses them.
            settings: how images are sampled.
            generators: B generators, the only randomness: an image depends on its prompt and its generator, not on the
                other prompts of the batch.
        """
        ...


@dataclass(frozen=True)
class MetricResult:
    """One measured result of a results table.

    Attributes:
        value: the point estimate.
        low: lower end of the 95 % bootstrap interval; None where none is computed.
        high: upper end.
        n: how many items (words, images, pairs) the value averages.
        details: how it was computed: engine, network, hash, scaling.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    details: dict[str, Any] = field(default_factory=dict)


def _by_field(function: Callable[..., Tensor], parts: Sequence[Conditioning]) -> Conditioning:
    """Apply ``function`` to each field of the parts, padded to one length, and return the result as a conditioning."""
    lengths = {p.tokens.shape[1] for p in parts}
    if len(lengths) > 1 or len({p.read_mask is None for p in parts}) > 1:
        parts = [p.padded(max(lengths)) for p in parts]
    values = {f.name: [getattr(p, f.name) for p in parts] for f in fields(Conditioning)}
    joined: dict[str, Any] = {name: None if v[0] is None else function(*v) for name, v in values.items()}
    return Conditioning(**joined)


def _stacked(values: Sequence[Tensor]) -> Tensor:
    return values[0] if isinstance(values[0], FieldNotBuilt) else torch.stack(list(values))


def _flat(value: Any) -> Iterator[Any]:
    """Yield everything in nested sequences and mappings."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _flat(entry)
    else:
        yield value


_NESTED = (ParsedPrompts, Negatives, PhrasePairs, Latents)


def _map_tensors(value: Any, function: Any) -> Any:
    """Return a copy with ``function`` applied to its tensors and those of nested fields; layouts stay as they are."""
    changed = {f.name: function(x) for f in fields(value) if isinstance(x := getattr(value, f.name), Tensor)}
    nested = {f.name: x for f in fields(value) if isinstance(x := getattr(value, f.name), _NESTED)}
    changed |= {name: _map_tensors(x, function) for name, x in nested.items()}
    return replace(value, **changed)
