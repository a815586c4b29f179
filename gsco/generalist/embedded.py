"""A generalist in process: any image-text model that transformers can load, by folder or hub id."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from inspect import signature
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, cast

import torch
from torch import Tensor

from gsco.case import Reading
from gsco.errors import GeneralistError, PromptTooLongError, TextCutError
from gsco.generalist.card import card_of, weights_in
from gsco.generalist.choice import Branch, Vocabulary, branches, weigh
from gsco.generalist.messages import messages
from gsco.generalist.reading import Score, combine, cut_at, expand, unread
from gsco.generalist.seen import seen_in
from gsco.generalist.tiny import FOLDER
from gsco.prompts import Form, Prompt
from specialists import torchvision_cure

BATCH = 16
"""Prompts that go through the model at once."""


class EmbeddedGeneralist:
    """A vision-language model in this process."""

    def __init__(
        self,
        source: Path | str = FOLDER,
        *,
        name: str | None = None,
        answer_form: Form | None = None,
        device: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            source: folder or hub id.
            name: how records call it; the folder's card or name if None.
            answer_form: what suits it; the folder's card, or `letter`, if None.
            device: a torch device; the GPU if there is one and None is given.

        Raises:
            GeneralistError: nothing can be loaded from there.
        """
        card = card_of(Path(source))
        self.name = name or card.name or Path(source).name
        self._source = source
        self.answer_form: Form = answer_form or card.answer_form
        self.writes = card.writes
        self.seen = seen_in(Path(source))
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model, self._processor = load_model(source, self._device)
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "left"
        # A model that two threads use at once would mix up nothing, but run slower.
        self._lock = Lock()
        self._spent, self._counting = 0, Lock()

    @cached_property
    def identity(self) -> str:
        """The name and, behind an @, the hash of its weights or the commit on the hub."""
        return "@".join(filter(None, (self.name, weights_of(self._source, self._model))))

    def spent(self) -> int:
        """Return the tokens read and written since the last call, of all threads."""
        with self._counting:
            found, self._spent = self._spent, 0
        return found

    def _count(self, tokens: int) -> None:
        with self._counting:
            self._spent += tokens

    def read(self, prompts: Sequence[Prompt], permutations: int = 2) -> list[Reading]:
        """Return one reading a prompt, averaged over that many option orders.

        A prompt that is longer than the model reads has a reading that says so.
        """
        groups = expand(prompts, permutations)
        flat = [asked for group in groups for asked in group]
        try:
            with self._lock, torch.inference_mode():
                scores = iter(self._scores(flat))
        except PromptTooLongError as error:
            if len(prompts) == 1:
                return [unread(prompts[0], self.name, error)]
            # The others must not suffer for the longest.
            return [self.read([prompt], permutations)[0] for prompt in prompts]
        return [
            combine(prompt, [next(scores) for _ in group], self.name)
            for prompt, group in zip(prompts, groups, strict=True)
        ]

    def write(self, prompt: Prompt, longest: int = 300, *, whole: bool = False) -> Iterator[str]:
        """Stream free text of at most `longest` tokens; a reader that goes away ends the writing.

        Raises:
            GeneralistError: the model fails while it writes.
            TextCutError: after the last piece: the text is longer.
        """
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        left = Event()
        problems: list[RuntimeError] = []
        written: list[int] = []

        def is_left(tokens: Tensor, scores: object) -> Tensor:
            return torch.full((len(tokens),), left.is_set(), device=tokens.device)

        def generate() -> None:
            try:
                made = self._model.generate(
                    **inputs,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([is_left]),
                    max_new_tokens=longest,
                    do_sample=False,
                )
                written.extend(made[0, inputs["input_ids"].shape[1] :].tolist())
            except RuntimeError as error:
                problems.append(error)
            finally:
                streamer.end()

        with self._lock:
            inputs = self._inputs([prompt])
            self._count(int(inputs["attention_mask"].sum()))
            thread = Thread(target=generate, daemon=True)
            thread.start()
            try:
                for piece in streamer:
                    self._count(len(self._tokenizer(piece, add_special_tokens=False).input_ids))
                    yield piece
            finally:
                left.set()
                thread.join()
        for error in problems:
            raise GeneralistError(
                f"{self.name!r} broke off while it wrote ({error}). Ask for less, or serve it "
                "where there is more memory."
            ) from error
        if len(written) == longest and written[-1] not in self._ends:
            raise TextCutError(cut_at(longest))

    def _scores(self, prompts: Sequence[Prompt]) -> list[Score]:
        starts = range(0, len(prompts), BATCH)
        return [s for i in starts for s in self._score(prompts[i : i + BATCH])]

    def _score(self, prompts: Sequence[Prompt]) -> list[Score]:
        """Return a score a prompt: one pass for all, and one more where labels part later on."""
        sequences = [[self._tokens(choice) for choice in prompt.choices] for prompt in prompts]
        trees = [branches(group, self._vocabulary) for group in sequences]
        deeper = [(i, b) for i, tree in enumerate(trees) for b in tree if b.prefix]
        inputs = self._inputs(prompts)
        again = sum(len(branch.prefix) for _, branch in deeper)
        self._count(int(inputs["attention_mask"].sum()) + again)
        given = self._looked(prompts, inputs)
        goes_on = self._goes_on
        out = self._model(**given, use_cache=bool(deeper) and goes_on, logits_to_keep=1)
        chances: list[dict[tuple[int, ...], Mapping[int, float]]] = [{} for _ in prompts]
        for i, tree in enumerate(trees):
            if tree and not tree[0].prefix:
                chances[i][()] = _chances(out.logits[i, -1], tree[0])
        if deeper:
            if goes_on:
                logits = self._further(out.past_key_values, inputs["attention_mask"], deeper)
            else:
                logits = self._anew(prompts, deeper)
            for (i, branch), row in zip(deeper, logits, strict=True):
                chances[i][branch.prefix] = _chances(row, branch)
        return [
            _score(prompt, weigh(group, tree, found))
            for prompt, group, tree, found in zip(prompts, sequences, trees, chances, strict=True)
        ]

    # Any: transformers' outputs have no common type.
    def _looked(self, prompts: Sequence[Prompt], inputs: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Let a LLaVA's tower look once at an image that stands in several prompts.

        Option orders of one case share their image, and the tower is a third of a reading's time.
        """
        places: dict[int, int] = {}
        images = [image for prompt in prompts for image in prompt.images]
        which = [places.setdefault(id(image), len(places)) for image in images]
        alone = len(places) == len(images)
        # Towers that take images of any size give their features in another shape.
        if alone or not self._takes_features or "image_sizes" in inputs:
            return inputs
        distinct = [which.index(place) for place in range(len(places))]
        others = dict(inputs)
        pixels = others.pop("pixel_values")[distinct]
        seen = self._model.get_image_features(pixel_values=pixels, return_dict=True)
        seen.pooler_output = [seen.pooler_output[place] for place in which]
        return {**others, "mm_encoder_outputs": {"image": seen}}

    # Any: transformers' caches have no types.
    def _further(
        self, cache: Any, mask: Tensor, deeper: Sequence[tuple[int, Branch]]
    ) -> list[Tensor]:
        """Return the logits after each prefix, going on from the prompts' cached states."""
        rows = torch.tensor([i for i, _ in deeper], device=self._device)
        cache.batch_select_indices(rows)
        longest = max(len(branch.prefix) for _, branch in deeper)
        pad = self._tokenizer.pad_token_id
        tokens = torch.tensor(
            [[*b.prefix, *[pad] * (longest - len(b.prefix))] for _, b in deeper],
            device=self._device,
        )
        whole = torch.cat([mask[rows], torch.ones_like(tokens)], dim=1)
        out = self._model(input_ids=tokens, attention_mask=whole, past_key_values=cache)
        return [out.logits[n, len(b.prefix) - 1] for n, (_, b) in enumerate(deeper)]

    def _anew(
        self, prompts: Sequence[Prompt], deeper: Sequence[tuple[int, Branch]]
    ) -> list[Tensor]:
        """Return the logits after each prefix, reading prompt and prefix in one pass."""
        logits = []
        for start in range(0, len(deeper), BATCH):
            part = deeper[start : start + BATCH]
            said = [branch.prefix for _, branch in part]
            inputs = followed(
                self._inputs([prompts[i] for i, _ in part]), said, self._tokenizer.pad_token_id
            )
            out = self._model(**inputs, use_cache=False, logits_to_keep=1 + max(map(len, said)))
            logits += [out.logits[n, len(prefix)] for n, prefix in enumerate(said)]
        return logits

    def _tokens(self, choice: str) -> list[int]:
        return [*self._tokenizer(choice, add_special_tokens=False).input_ids, self._ends[0]]

    @cached_property
    def _takes_features(self) -> bool:
        """Whether the model takes what its tower saw instead of pixels.

        transformers before 5.18, which is not allowed here but may be forced, does not, and
        silently answers as if there were no image.
        """
        known = signature(self._model.forward).parameters
        return self._model.config.model_type == "llava" and "mm_encoder_outputs" in known

    @cached_property
    def _goes_on(self) -> bool:
        """Whether the model can go on from cached states of some of a batch's prompts.

        One that counts places by the shape of its images, as Qwen's, has counted for the batch.
        """
        return not any(hasattr(part, "rope_deltas") for part in self._model.modules())

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._tokenizer.get_vocab(), self._ends[1:])

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """The tokens that end an answer: under a constraint a server lets any of them follow."""
        told = self._model.generation_config.eos_token_id
        ends = told if isinstance(told, list) else [told]
        known = (end for end in (*ends, self._tokenizer.eos_token_id) if end is not None)
        return tuple(dict.fromkeys(map(int, known)))

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        inputs = encoded(self._processor, prompts)
        self._check_length(inputs["input_ids"].shape[1])
        return cast(dict[str, Tensor], inputs.to(self._device, self._model.dtype))

    def _check_length(self, length: int) -> None:
        config = self._model.config.get_text_config()
        most = getattr(config, "max_position_embeddings", None)
        if most is not None and length > most:
            raise PromptTooLongError(
                f"The prompt has {length!r} tokens; {self.name!r} reads {most}. "
                "Recall fewer neighbours, consult fewer specialists, or take a larger model."
            )


# Any: transformers' processors and what they return have no types.
def encoded(processor: Any, prompts: Sequence[Prompt]) -> Any:
    """Return the tokens and images of prompts as a model takes them, padded to one length."""
    texts = [
        processor.apply_chat_template(messages(prompt), tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    return processor(
        text=texts,
        images=[list(prompt.images) for prompt in prompts],
        padding=True,
        return_tensors="pt",
        # The chat template has written the tokens that begin a text.
        add_special_tokens=False,
    )


def followed(
    inputs: Mapping[str, Tensor], lines: Sequence[Sequence[int]], pad: int
) -> dict[str, Tensor]:
    """Return the inputs of prompts, each followed by tokens of its own, padded on the right.

    Whatever runs parallel to the tokens, such as their types, goes on with zeros.

    Args:
        inputs: `input_ids` and `attention_mask` of shape (B, T), and what else a model takes.
        lines: B of them.
        pad: the token that fills up.
    """
    ids = inputs["input_ids"]
    longest = max(map(len, lines))
    rows = [[*line, *[pad] * (longest - len(line))] for line in lines]
    tokens = torch.tensor(rows, dtype=ids.dtype, device=ids.device)
    there = torch.tensor([[1] * len(line) + [0] * (longest - len(line)) for line in lines])
    behind = {"input_ids": tokens, "attention_mask": there.to(ids.device)}
    nothing = torch.zeros_like(tokens)
    return {
        key: torch.cat([value, behind.get(key, nothing).to(value.dtype)], dim=1)
        if value.shape == ids.shape
        else value
        for key, value in inputs.items()
    }


# Any: transformers' models have no types.
def weights_of(source: Path | str, model: Any) -> str:
    """Return the hashes of a model's weights, or its commit on the hub; empty if there is none."""
    return weights_in(Path(source)) or getattr(model.config, "_commit_hash", None) or ""


def _chances(logits: Tensor, branch: Branch) -> dict[int, float]:
    tokens = [*branch.following, *branch.rivals]
    chances = logits.float()[torch.tensor(tokens, device=logits.device)].softmax(0).tolist()
    return dict(zip(tokens, chances, strict=True))


def _score(prompt: Prompt, weights: Sequence[float]) -> Score:
    probabilities = dict(zip(prompt.answers, weights, strict=True))
    best = max(range(len(weights)), key=weights.__getitem__)
    return Score(prompt.answers[best], probabilities, prompt.choices[best])


# Any: transformers' models and processors have no types.
def load_model(source: Path | str, device: str) -> tuple[Any, Any]:
    """Return the model, ready for inference, and its processor.

    Raises:
        GeneralistError: nothing can be loaded from there.
    """
    torchvision_cure.apply()
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    # A bar for loading a few files would stand between the lines of every command.
    logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(source)
        dtype = torch.float32 if device == "cpu" else "auto"
        model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype)
    except (OSError, ValueError) as error:
        raise GeneralistError(
            f"No generalist can be loaded from {str(source)!r} ({error}). Give a folder or hub id "
            "of an image-text model, the URL of a server, or nothing for the shipped gsco-tiny."
        ) from error
    return model.to(device).eval(), processor
