"""What travels between the floors: frozen dataclasses, a shape per field.

Coordinates are fractions of the image's width and height: ``(0, 0)`` is the top left corner of the frame and ``(1, 1)``
the bottom right one. They may lie outside: MARIO's own quads do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

_UNIT_CORNERS = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))  # clockwise on screen, from the top left


def _no_boxes() -> Tensor:
    return torch.zeros(0, 5)


@dataclass(frozen=True)
class Layout:
    """Where each word and each grounded object stands: one rotated box each.

    Attributes:
        words: the ``N`` words, in the order of the boxes.
        boxes: (N, 5) float32: centre x, centre y, width, height (fractions of the frame) and the angle in radians,
            clockwise on screen, in ``(-pi, pi]``.
        fonts: a font file a word, None for the rasteriser's own; empty where every word takes that one.
        objects: the ``K`` phrases of the prompt that have a box, such as ``a red star``, as the prompt has them.
        object_boxes: (K, 5) float32: their boxes, likewise.
        moved: how many boxes were moved after they were generated, because they lay on others or outside the frame.

    Raises:
        ValueError: if ``boxes`` is not (len(words), 5), ``object_boxes`` not (len(objects), 5), or ``fonts`` is neither
            empty nor as long as ``words``.
    """

    words: tuple[str, ...]
    boxes: Tensor
    fonts: tuple[str | None, ...] = ()
    objects: tuple[str, ...] = ()
    object_boxes: Tensor = field(default_factory=_no_boxes)
    moved: int = 0

    def __post_init__(self) -> None:
        for name, things, boxes in (
            ("boxes", self.words, self.boxes),
            ("object_boxes", self.objects, self.object_boxes),
        ):
            if tuple(boxes.shape) != (len(things), 5):
                kind = "words" if name == "boxes" else "objects"
                raise ValueError(f"{name} has shape {tuple(boxes.shape)}; {len(things)} {kind} need ({len(things)}, 5)")
        if self.fonts and len(self.fonts) != len(self.words):
            raise ValueError(f"fonts has {len(self.fonts)} entries; {len(self.words)} words need one each, or none")

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def empty(cls) -> Layout:
        """A layout without words."""
        return cls((), torch.zeros(0, 5))

    @classmethod
    def from_quads(cls, words: Sequence[str], quads: Tensor) -> Layout:
        """The rotated boxes nearest to four corners each.

        Args:
            words: the ``N`` words.
            quads: (N, 4, 2) float, corners in fractions of the frame, clockwise, from the one at which the word starts
                (the top left one of a word as it is drawn, also where it is read from right to left). In float64 the
                way from :meth:`quads` of float64 boxes and back is exact to 1e-14.
        """
        quads = quads.reshape(len(words), 4, 2)
        quads = quads if quads.dtype == torch.float64 else quads.to(torch.float32)
        across = (quads[:, 1] - quads[:, 0] + quads[:, 2] - quads[:, 3]) / 2  # (N, 2), along the reading direction
        down = (quads[:, 3] - quads[:, 0] + quads[:, 2] - quads[:, 1]) / 2
        angle = torch.atan2(across[:, 1], across[:, 0])
        sizes = torch.stack([across.norm(dim=1), down.norm(dim=1)], dim=1)
        boxes = torch.cat([quads.mean(dim=1), sizes, angle[:, None]], dim=1)
        return cls(tuple(words), boxes.to(torch.float32))

    def quads(self) -> Tensor:
        """(N, 4, 2), of the boxes' type: the corners, clockwise, from the one at which the word starts."""
        unit = self.boxes.new_tensor(_UNIT_CORNERS)
        corners = unit * self.boxes[:, None, 2:4]  # (N, 4, 2)
        cos, sin = self.boxes[:, 4].cos(), self.boxes[:, 4].sin()
        rotation = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # (N, 2, 2)
        # no matrix product: autocast would round it to bfloat16, two pixels of 512
        return (rotation[:, None] * corners[:, :, None]).sum(-1) + self.boxes[:, None, :2]


@dataclass(frozen=True)
class Sample:
    """One poster of a data set.

    Attributes:
        key: its name, unique in the data set (``00000_000000000``).
        image: (3, H, W) float32 in [-1, 1].
        prompt: the caption; the words that are drawn stand in quotes.
        layout: every word read on the image, in fractions of the frame.
        glyphs: (1, H, W) uint8: the layout as drawn by the rasteriser, white on black.
        word_boxes: (N, 5) float32: the box of each word to draw, in the prompt's order; ``N`` is ``max_words``.
        word_mask: (N,) bool: True where the prompt has such a word and its box is known.
        object_boxes: (K, 5) float32: the box of each object phrase, in the prompt's order; ``K`` is ``max_objects``.
        object_mask: (K,) bool: True where the prompt has such a phrase and its box is known.
        scene_known: whether the data tell where the objects stand: then a phrase without a box is known to have none.
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
    scene_known: bool


@dataclass(frozen=True)
class ParsedPrompts:
    """``B`` prompts as a text encoder reads them: tokens in windows, and which of them each phrase has.

    A prompt has up to ``K`` windows of ``L`` tokens and ``M`` places for phrases: first ``N`` for words to draw, then
    those for objects. Nothing here depends on weights.

    Attributes:
        ids: (R, L) int64: the tokens of every window that a prompt has, prompt by prompt.
        mask: (R, L) bool: False at the padding.
        rows: (R,) int64 in [0, B K): which window each of them is.
        windows: (B, K) bool: which windows a prompt has; the first always.
        token_mask: (B, K L) bool: ``mask`` with the windows side by side.
        read_mask: (B, K L) bool: the token states an image generator may attend to; None means all.
        inside: (B, M, K L) bool: which tokens belong to a phrase.
        phrase_mask: (B, M) bool: True where there is a phrase.
        order: (B, M) int64 in [0, M): each phrase's rank in the prompt; absent ones come last.
        word_groups: (B, N, 2) int64: the quoted span of each word and its rank in it, zero where there is no word.
        letters: (S, C) int64: the bytes of each different word that is spelt, 256 behind its end; at least one row.
        spelt: (T,) int64 in [0, S): the words of all phrases, one after the other.
        spelt_at: (T,) int64 in [0, B M): the phrase of each.
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

    def __len__(self) -> int:
        return len(self.windows)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ParsedPrompts:
        """The prompts on ``device``."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class PhrasePairs:
    """Which single phrases stage 0 trains in a batch: each by its text and its place among the text's ``M``.

    Attributes:
        named: (P, 2) int64: every phrase of the B prompts.
        placed: (K, 2) int64: those of them whose box is known.
        boxes: (K, 5) float32: their boxes.
        untrue: (E, 2) int64: phrases of the edited captions that say something else of such a box than the prompt.
    """

    named: Tensor
    placed: Tensor
    boxes: Tensor
    untrue: Tensor


@dataclass(frozen=True)
class Negatives:
    """What stage 0 tells the images of ``B`` samples from, beside each other's prompts.

    Attributes:
        step: of the optimizer, for which they were drawn.
        texts: B H captions with one thing changed, those of the first prompt first; none without edits.
        parsed: of B + B H texts: the prompts, then these.
        pairs: None where no single phrases are trained.
    """

    step: int
    texts: tuple[str, ...]
    parsed: ParsedPrompts
    pairs: PhrasePairs | None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Negatives:
        """The negatives on ``device``."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class Batch:
    """``B`` samples; the fields are those of :class:`Sample`, stacked.

    Attributes:
        keys: B names.
        images: (B, 3, H, W) float32 in [-1, 1].
        prompts: B captions.
        layouts: B layouts, always on the CPU.
        glyphs: (B, 1, H, W) uint8; :func:`~vlad_lightning.layout.glyphs.glyph_images` makes images of them.
        word_boxes: (B, N, 5) float32.
        word_mask: (B, N) bool.
        object_boxes: (B, K, 5) float32.
        object_mask: (B, K) bool.
        scene_known: (B,) bool.
        spare: True for a repeated batch that only keeps a device in step with the others: nothing of it counts.
        parsed: the prompts, parsed where the batch was made; None where that was not asked for.
        negatives: of stage 0's training; None elsewhere.
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
    scene_known: Tensor
    spare: bool = False
    parsed: ParsedPrompts | None = None
    negatives: Negatives | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def texts(self) -> tuple[str, ...] | ParsedPrompts:
        """The prompts as a prompt encoder takes them: parsed, where they are."""
        return self.prompts if self.parsed is None else self.parsed

    @property
    def counted(self) -> int:
        """How many samples count in a mean: B, or 0 where the batch is spare."""
        return 0 if self.spare else len(self)

    @classmethod
    def collate(cls, samples: Sequence[Sample]) -> Batch:
        """Stack samples; a DataLoader's ``collate_fn``."""
        return cls(
            keys=tuple(s.key for s in samples),
            images=torch.stack([s.image for s in samples]),
            prompts=tuple(s.prompt for s in samples),
            layouts=tuple(s.layout for s in samples),
            glyphs=torch.stack([s.glyphs for s in samples]),
            word_boxes=torch.stack([s.word_boxes for s in samples]),
            word_mask=torch.stack([s.word_mask for s in samples]),
            object_boxes=torch.stack([s.object_boxes for s in samples]),
            object_mask=torch.stack([s.object_mask for s in samples]),
            scene_known=torch.tensor([s.scene_known for s in samples]),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch with its stacked tensors on ``device``; Lightning calls this."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch with its stacked tensors in pinned memory; a DataLoader calls this."""
        return _map_tensors(self, Tensor.pin_memory)


@dataclass(frozen=True)
class PromptBatch:
    """Prompts for ``predict``, with the words' places or a picture to generate into where a prompt has some.

    A prompt with an image has a mask, a layout or both: without a mask the region is around the layout's boxes.
    Everything stays on the CPU.

    Attributes:
        keys: B names, used for the files that are written.
        prompts: B prompts.
        layouts: B layouts to draw, None where one is generated; empty where every prompt's is.
        images: B pictures to generate into, each (3, H, W) float32 in [-1, 1] with a size of its own, None where a
            prompt is generated from nothing; empty where every one is.
        masks: B regions, each (1, H, W) bool of its picture's size, True where it is generated, or None; empty where
            there is none.
        sources: B texts that say where a prompt was read, for errors; empty where that is not known.
        noise_keys: B names of the noise (:func:`~vlad_lightning.diffusion.generators.numbered`), which do not depend on
            where in a list a prompt stands; empty where ``keys`` name it.
        spare: True for a repeated batch that only keeps a device in step with the others: another device writes it.

    Raises:
        ValueError: where one of the five after ``prompts`` is neither empty nor as long as ``prompts``.
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
    """What the text says: the composition t of Eq. 2, in the three forms its readers need.

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
            None where each word is a phrase of its own.
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
        """Row by row, this conditioning where ``keep`` (B,) is True and ``other`` elsewhere."""

        def choose(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(keep.view(-1, *[1] * (mine.ndim - 1)), mine, theirs)

        return _by_field(choose, (self, other))

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """The rows of every part, in order."""
        return _by_field(lambda *values: torch.cat(values), parts)

    def padded(self, length: int) -> Conditioning:
        """With ``length`` token states; those that are added are masked, and read by nobody."""
        more = length - self.tokens.shape[1]
        read = torch.ones_like(self.token_mask) if self.read_mask is None else self.read_mask
        tokens = F.pad(self.tokens, (0, 0, 0, more))
        return replace(
            self, tokens=tokens, token_mask=F.pad(self.token_mask, (0, more)), read_mask=F.pad(read, (0, more))
        )

    def with_phrases_as_tokens(self) -> Conditioning:
        """With the composed phrases behind the token states, where the image generator attends to both."""
        read = torch.ones_like(self.token_mask) if self.read_mask is None else self.read_mask
        return replace(
            self,
            tokens=torch.cat([self.tokens, self.phrases.to(self.tokens)], dim=1),
            token_mask=torch.cat([self.token_mask, self.phrase_mask], dim=1),
            read_mask=torch.cat([read, self.phrase_mask], dim=1),
        )

    def expand(self, size: int) -> Conditioning:
        """One row repeated ``size`` times."""
        return _map_tensors(self, lambda x: x.expand(size, *x.shape[1:]))


@dataclass(frozen=True)
class MaskedImages:
    """Pictures of which a part is to be generated, and the rest kept.

    Attributes:
        images: (B, 3, H, W) float32 in [-1, 1]; what lies in the region is never looked at.
        masks: (B, 1, H, W) bool: True in the region that is generated.

    Raises:
        ValueError: where the two do not fit each other.
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
        """The pictures of every part, in order; they must have one size."""
        return cls(torch.cat([part.images for part in parts]), torch.cat([part.masks for part in parts]))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MaskedImages:
        """The region on ``device``."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class GeneratedImages:
    """What the system draws for ``B`` prompts.

    Attributes:
        images: (B, 3, H, W) float32 in [-1, 1].
        layouts: B layouts, one word a box.
        glyphs: (B, 3, H, W) float32 in [-1, 1]: the rasterised layouts, white on black.
        prompts: B prompts.
        keys: B names.
        pictures: B results of inpainting, each (3, H, W) float32 in [-1, 1] on the CPU with the size of the picture
            that was generated into, or of ``images`` for a prompt without one; empty where nothing was inpainted.
    """

    images: Tensor
    layouts: tuple[Layout, ...]
    glyphs: Tensor
    prompts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    pictures: tuple[Tensor, ...] = ()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GeneratedImages:
        """The generation with its images and glyphs on ``device``."""
        return _map_tensors(self, lambda x: x.to(device, non_blocking=non_blocking))

    def named(self, keys: Sequence[str]) -> GeneratedImages:
        """The generation under these names."""
        return replace(self, keys=tuple(keys))

    def within(self, pictures: Sequence[Tensor]) -> GeneratedImages:
        """The generation with these results of inpainting."""
        return replace(self, pictures=tuple(pictures))


_Settings = TypeVar("_Settings", contravariant=True)


class TextToImage(Protocol[_Settings]):
    """A system that draws prompts: what is tested, compared and exported, ours or another's.

    Its settings are its own.
    """

    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: _Settings,
        generators: Sequence[torch.Generator],
    ) -> GeneratedImages:
        """Draw ``B`` prompts.

        Args:
            prompts: B prompts; the words to draw stand in quotes.
            layouts: B layouts, None where the system places the words itself; None leaves all of them to it. A system
                that takes none refuses them.
            settings: how images are sampled.
            generators: B generators, all the randomness: an image depends on its prompt and its generator, not on the
                rest of the batch.
        """
        ...


@dataclass(frozen=True)
class MetricResult:
    """One measured result of a results table.

    Attributes:
        value: the point estimate.
        low: lower end of the 95 % bootstrap interval; None where none is computed.
        high: upper end.
        n: how many things (words, images, pairs) the value averages.
        details: where it comes from: engine, network, hash, scaling.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    details: dict[str, Any] = field(default_factory=dict)


def _by_field(function: Callable[..., Tensor], parts: Sequence[Conditioning]) -> Conditioning:
    """A conditioning whose every field is ``function`` of the parts' fields, padded to one length where they differ."""
    lengths = {p.tokens.shape[1] for p in parts}
    if len(lengths) > 1 or len({p.read_mask is None for p in parts}) > 1:
        parts = [p.padded(max(lengths)) for p in parts]
    values = {f.name: [getattr(p, f.name) for p in parts] for f in fields(Conditioning)}
    joined: dict[str, Any] = {name: None if v[0] is None else function(*v) for name, v in values.items()}
    return Conditioning(**joined)


_TEXTS = (ParsedPrompts, Negatives, PhrasePairs)


def _map_tensors(value: Any, function: Any) -> Any:
    """The dataclass with ``function`` of its tensors, and of those of the texts in it; layouts stay as they are."""
    changed = {f.name: function(x) for f in fields(value) if isinstance(x := getattr(value, f.name), Tensor)}
    texts = {f.name: x for f in fields(value) if isinstance(x := getattr(value, f.name), _TEXTS)}
    changed |= {name: _map_tensors(x, function) for name, x in texts.items()}
    return replace(value, **changed)
