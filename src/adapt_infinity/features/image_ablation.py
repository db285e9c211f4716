"""A sample's tokens with its pictures and, where the probe asks, without them, without encoding it twice.

Most of an encoding is the processor's checks, not the tokenizer's work. So the words alone are put through the chat
template and the tokenizer only. If their tokens are those of the whole conversation less the tokens that only pictures
bring, then the answers are the same tokens, too. That is compared for every sample, and where it does not hold (words
on both sides of a picture that merge without it, say) the sample is encoded in full. What is taken for granted is that
a family's processor does nothing more to text than its tokenizer does; the first samples show whether that is so.
"""

import logging

import torch

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample
from adapt_infinity.model.checkpoint import Reader, Vlm
from adapt_infinity.model.prompts import Encoded, chat_messages, encode, end_tokens

log = logging.getLogger(__name__)

Pair = tuple[Encoded, Encoded | None]  # the sample, and the same without its pictures, if it has any and that is asked
CHECKED = 4  # samples that are encoded in full to see whether it comes to the same
PATIENCE = 16  # failures, less successes, after which a family's samples are all encoded in full


class ImageAblationEncoder:
    """Encodes samples in pairs, and learns from the first what a family's pictures bring."""

    def __init__(self, reader: Reader | Vlm, pictures: Pictures, twice: bool = True) -> None:
        self._reader, self._pictures, self._twice = reader, pictures, twice
        self._brought: set[int] = set()  # tokens that have been seen with pictures and not without
        self._unchecked, self._patience = CHECKED, PATIENCE

    def read(self, sample: Sample) -> Pair:
        """The sample's tokens, whole and, if `twice`, without its pictures."""
        whole = encode(self._reader, sample, self._pictures)
        again = self._twice and bool(sample.images)
        return whole, self._without(whole, sample.without_images()) if again else None

    def _without(self, whole: Encoded, bare: Sample) -> Encoded:
        derived = self._derived(whole, bare) if self._patience else None
        if derived is not None and not self._unchecked:
            self._patience = min(PATIENCE, self._patience + 1)
            return derived
        full = encode(self._reader, bare, self._pictures)
        if self._patience:
            self._learn(whole, derived, full)
        return full

    def _learn(self, whole: Encoded, derived: Encoded | None, full: Encoded) -> None:
        """See what an encoding in full tells of the family."""
        if derived is None:
            self._brought |= set(whole.input_ids.tolist()) - set(full.input_ids.tolist())
            self._patience -= 1
        elif _same(derived, full):
            self._unchecked -= 1
        else:
            self._patience = 0
        if not self._patience:
            log.info("every sample is encoded a second time without its pictures: its words are other tokens then")

    def _derived(self, whole: Encoded, bare: Sample) -> Encoded | None:
        """The conversation without its pictures' tokens; None where that is not certainly what `encode` would give."""
        brought = torch.isin(whole.input_ids, torch.tensor(sorted(self._brought), dtype=torch.int64))
        if (brought & whole.answers).any() or (brought[1:] & whole.answers[:-1]).any():
            return None  # a picture within an answer or between it and its end
        kept = whole.input_ids[~brought]
        words = self._words(bare)
        if kept.tolist() not in (words, [*words, end_tokens(self._reader)[0]]):  # `encode` appends a missing end
            return None
        return Encoded(whole.sample_id, kept, whole.answers[~brought], {})

    def _words(self, bare: Sample) -> list[int]:
        """The tokens of a conversation without pictures, as transformers' processors pass them to the tokenizer."""
        processor = self._reader.processor
        text = processor.apply_chat_template(chat_messages(bare, self._pictures), tokenize=False)
        begin = processor.tokenizer.bos_token
        special = begin is None or not text.startswith(begin)
        return list(processor.tokenizer(text, add_special_tokens=special)["input_ids"])


def _same(derived: Encoded, full: Encoded) -> bool:
    """Whether two encodings are equal. What a processor adds to text alone is not derived."""
    tokens, answers = torch.equal(derived.input_ids, full.input_ids), torch.equal(derived.answers, full.answers)
    return tokens and answers and not full.extras
