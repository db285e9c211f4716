"""One conversation at the door: what is wrong with it, what is safe to mend, and what it asks.

Mending is for what leaves no doubt; the list is at the head of `reading.py`, and each repair goes on record.
"""

import hashlib
import string

from adapt_infinity.data.sample import IMAGE

_BETWEEN_ASCII = (string.punctuation + string.whitespace).encode()
_BETWEEN_WORDS = dict.fromkeys(map(ord, _BETWEEN_ASCII.decode() + "，。！？：；、（）「」“”‘’…¿¡"))


def in_order(turns: list[dict[str, str]], pictures: int, max_text: int) -> tuple[list[dict[str, str]], list[str]]:
    """The turns, mended if they have to be, and the repairs; `ValueError` says what cannot be mended."""
    try:
        check_conversation(turns, pictures, max_text)
    except ValueError:
        mended, repairs = mend(turns, pictures)
        check_conversation(mended, pictures, max_text)
        return mended, repairs
    return turns, []


def mend(turns: list[dict[str, str]], pictures: int) -> tuple[list[dict[str, str]], list[str]]:
    """The turns after the safe repairs, and which repairs were made; `ValueError` when no question has an answer."""
    repairs = []
    if any(turn["role"] == "system" for turn in turns):
        turns = _join_system(turns)
        repairs.append("system prompt put before its question")
    first = next((place for place, turn in enumerate(turns) if turn["role"] == "user"), len(turns))
    last = len(turns) - (turns[-1]["role"] == "user" if turns else 0)
    if first >= last:
        raise ValueError("no question is followed by an answer: turns do not alternate between user and assistant")
    if first > 0:
        repairs.append("answer without a question left out")
    if last < len(turns):
        repairs.append("question without an answer left out")
    turns = turns[first:last]
    if not pictures:
        return turns, repairs
    marks = [turn["text"].count(IMAGE) for turn in turns]
    if sum(marks) == 0:
        turns = [{**turns[0], "text": f"{IMAGE}\n" * pictures + turns[0]["text"]}, *turns[1:]]
        repairs.append("pictures put before the first question")
    elif pictures == 1 and len(turns) > 2 and marks == [int(turn["role"] == "user") for turn in turns]:
        rest = [{**turn, "text": turn["text"].replace(IMAGE, "").strip()} for turn in turns[1:]]
        turns = [turns[0], *rest]
        repairs.append("repeated placeholder left out")
    return turns, repairs


def check_conversation(turns: list[dict[str, str]], pictures: int, max_text: int) -> None:
    """`ValueError` for a conversation that cannot be trained on, whatever the model."""
    if not turns or len(turns) % 2:
        raise ValueError("turns do not alternate between user and assistant, ending with an answer")
    placeholders = length = 0
    for place, turn in enumerate(turns):
        text, answer = turn["text"], place % 2 == 1
        if turn["role"] != ("assistant" if answer else "user"):
            raise ValueError("turns do not alternate between user and assistant, ending with an answer")
        if not text or text.isspace():
            raise ValueError(f"{'an answer' if answer else 'a question'} is empty")
        marks = text.count(IMAGE)
        if answer and marks:
            raise ValueError("an answer contains an image placeholder")
        placeholders += marks
        length += len(text)
        if not text.isascii():
            check_unicode(text)
    if placeholders != pictures:
        raise ValueError(f"{placeholders} image placeholders but {pictures} pictures")
    if length > max_text:
        raise ValueError(f"{length} characters of text, intake.max_text is {max_text}")


def question_hash(turns: list[dict[str, str]]) -> int:
    """63 bits of the questions' words: equal for questions that differ in case, space and punctuation only."""
    asked = " ".join([turn["text"] for turn in turns if turn["role"] == "user"]).replace(IMAGE, "")
    plain = asked.encode()
    if asked.isascii():  # the same, byte by byte
        words = plain.lower().translate(None, _BETWEEN_ASCII)
    else:
        words = asked.casefold().translate(_BETWEEN_WORDS).encode()
    return int.from_bytes(hashlib.blake2b(words or plain, digest_size=8).digest(), "big") >> 1


def check_unicode(text: str) -> None:
    """`ValueError` for half a surrogate pair, which no file in UTF-8 can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("the text is not valid Unicode") from error


def _join_system(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """System prompts put before the question that follows them; without one, they are lost with the rest."""
    joined: list[dict[str, str]] = []
    waiting = ""
    for turn in turns:
        if turn["role"] == "system":
            waiting += turn["text"].strip() + "\n"
        elif turn["role"] == "user" and waiting.strip():
            joined.append({"role": "user", "text": waiting + turn["text"]})
            waiting = ""
        else:
            joined.append(turn)
    return joined
