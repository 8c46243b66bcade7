"""Stated: what a speaker says of themself - likes, dislikes, name, home, work - and where in the text it is said.

Knows: English and Chinese ways to say so, and to ask for it again. Does not know: memories, who speaks.

Rules, no model: a sentence counts that says it outright, in the first person and the present tense. A question, a
condition, a wish ("I would like"), a memory ("I used to") and what others are quoted with state nothing; nor does what
points elsewhere ("I like it"). So what is found is always a span of the text; what is not plainly said is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from extmem.reading import Span
from extmem.text.sentences import sentences
from extmem.text.terms import STOP_WORDS

LIKES, DISLIKES, IS = "likes", "dislikes", "is"
LIKING = "liking"  # begins the slot of what is liked or not
WORDS = 6  # of what is liked that name it
_JOINS = ("and", "but", "because", "so", "since", "although")  # words that a clause may follow


class Stated(NamedTuple):
    """What is said: of what (`slot`: "home", "favourite colour", "liking/hiking"), how, in short, and where. Of one
    slot what is said later holds."""

    slot: str
    kind: str
    says: str
    span: Span


def _any(phrases: str) -> str:
    """Any of these, which are divided by commas."""
    return f"(?:{'|'.join(phrase.strip() for phrase in phrases.split(','))})"


_ADVERBS = """
absolutely, actively, actually, adamantly, also, always, completely, consistently, deeply, do, especially, exclusively,
firmly, generally, greatly, have to, honestly, just, mostly, much, must, need to, now, only, particularly, personally,
quite, rather, really, severely, simply, specifically, still, strictly, strongly, tend to, totally, truly, try to,
typically, usually, very much
"""
_ADVERB = f"(?:{_any(_ADVERBS)} )*"
_DEGREES = """
a, an, no, any, very, really, not, so, quite, strong, severe, big, huge, great, deep, deep-seated, deep-rooted, slight,
mild, real, intense, extreme, acute, serious, general, ethical, personal, particular, strict, genuine, irrational,
lifelong, terrible
"""
_DEGREE = f"(?:{_any(_DEGREES)} )*"
_LIKE = _any("like, love, enjoy, adore, prefer, favou?r, appreciate, prioriti[sz]e, value, cherish")
_USES = """
eat, drink, wear, use, watch, play, buy, drive, read, consume, purchase, own, follow, support, consider, shop, stay,
travel, choose, dine, feed
"""
_USE = _any(_USES)
_NEVER = """
do not, don't, cannot, can't, can not, will not, won't, never, would never, refuse to, am unable to, am not able to
"""
_HATE = """
dislike, hate, detest, loathe, despise, avoid, refuse, abhor, can't stand, cannot stand, can't bear, cannot bear,
can't tolerate, cannot tolerate, can't handle, stay away from, steer clear of, try not to, prefer not to,
prefer to avoid
"""
_AFRAID = """
allergic to, intolerant to, intolerant of, sensitive to, afraid of, scared of, terrified of, tired of, against,
uncomfortable with, opposed to, bored by, averse to, uninterested in, biased against
"""
_AVERSION = """
aversion to, aversion for, dislike for, dislike of, dislike to, fear of, phobia of, objection to, objections to,
allergy to, allergies to, intolerance to, interest in, hatred of, hatred for, distaste for, bias against
"""
_CARE = "care for, want to, trust, believe in, agree with"
_DULLS = """
annoying, boring, demotivating, difficult, disorienting, distracting, dull, hard, ineffective, overwhelming, stressful,
tedious, tiring, too, unpleasant
"""
_FOND = "fan of, into, interested in, comfortable with, fond of, keen on"
_KEEN = """
into, fan of, fond of, passionate about, keen on, crazy about, drawn to, fascinated by, advocate for, lover of,
enthusiast of, interested in
"""
_PREFERENCE = "preference for, passion for, love for, love of, interest in, soft spot for"
_DISLIKES = "|".join(
    (
        _any(_HATE),
        f"(?:do not|don't|no longer) {_ADVERB}(?:{_LIKE}|{_any(_CARE)})",
        f"{_any(_NEVER)} {_ADVERB}(?:{_USE}|stand|tolerate)",
        f"am {_DEGREE}{_any(_AFRAID)}",
        f"am not {_DEGREE}{_any(_FOND)}",
        f"have no {_DEGREE}interest in",
        f"have {_DEGREE}{_any(_AVERSION.replace('interest in, ', ''))}",
        rf"find (?:it {_any(_DULLS)} to|(?!it)(?=[^.;]*\b{_any(_DULLS)}))",
    )
)
_LIKES = "|".join(
    (
        _LIKE,
        f"(?:only|exclusively|strictly) (?:want to )?{_USE}",
        f"am {_DEGREE}{_any(_KEEN)}",
        f"have {_DEGREE}{_any(_PREFERENCE)}",
        "believe in",
        "learn best (?:in|through|by|with|from)",
    )
)
_BEGINS = "|".join(["(?<=^)", "(?<=[,;:\u2014] )", *(rf"(?<=\b{word} )" for word in _JOINS)])
_BEGINS = f"(?:{_BEGINS})"
_STANCES = [
    (DISLIKES, re.compile(rf"{_BEGINS}I {_ADVERB}(?:{_DISLIKES})\b(?P<of>[^;]*)")),
    (DISLIKES, re.compile(rf"{_BEGINS}I have {_DEGREE}(?P<of>[a-z][a-z -]*) allergy\b")),
    (LIKES, re.compile(rf"{_BEGINS}I {_ADVERB}(?:{_LIKES})\b(?P<of>[^;]*)")),
]
_BIG = r"[A-Z\u00c0-\u00de][\w'-]*"
_NAME = rf"(?P<of>{_BIG}(?: {_BIG}){{0,2}})"
_PLACE = rf"(?P<of>(?:the )?{_BIG}\.?(?:,? (?:(?:de|la|of|the) )?{_BIG}){{0,3}})"
_HELLO = r"(?:(?:[Hh]i|[Hh]ello|[Hh]ey)(?: there)?[,!]? )?(?P<here>)"
_DIET = _any("vegan, vegetarian, pescatarian, carnivore, flexitarian, plant-based")
_ILL = "[a-z]+ (?:intolerance|issues|condition)|asthma|diabetes|allergies|migraines|sensitive (?:skin|teeth|stomach)"
_FACTS = [
    ("name", rf"^{_HELLO}(?:[Mm]y name is|I am called|[Cc]all me|[Mm]y name's) {_NAME}"),
    ("name", rf"^{_HELLO}[Mm]y name is (?P<of>[^\W\d]+)(?=[.,!]|$)"),
    ("name", rf"^{_HELLO}I am {_NAME}(?=[.,!]|$)"),
    ("home", rf"{_BEGINS}I {_ADVERB}(?:live in|(?:have )?moved (?:back )?to|(?:have )?relocated to) {_PLACE}"),
    ("origin", rf"{_BEGINS}I (?:am originally|am|come) from {_PLACE}"),
    ("work", rf"{_BEGINS}I {_ADVERB}(?P<of>work (?:as|at|for) [^,.;]+)"),
    ("work", rf"{_BEGINS}[Mm]y (?:job|profession|occupation) is (?P<of>[^,.;]+)"),
    ("age", rf"{_BEGINS}I am (?P<of>\d{{1,3}})(?: years old)?(?=[.,!]|$| and)"),
    ("birthday", rf"{_BEGINS}(?:[Mm]y birthday is|I was born) (?:on )?(?P<of>[^,.;]*\d[^.;]*)"),
    ("diet", rf"{_BEGINS}I am (?:now )?(?:an? )?(?:strict |lifelong |committed |ethical )?(?P<of>{_DIET})\b"),
    ("diet", rf"{_BEGINS}I {_ADVERB}(?:follow|adhere to|am on) an? (?:strict )?(?P<of>{_DIET}) diet\b"),
    ("diet {}", rf"{_BEGINS}I {_ADVERB}(?:follow|adhere to|am on) an? (?:strict )?(?P<of>(?P<slot>[\w-]+) diet)\b"),
    ("condition {}", rf"{_BEGINS}I have (?:a |an )?(?:(?:very|extremely|severe|chronic) )?(?P<of>(?P<slot>{_ILL}))\b"),
    ("favourite {}", rf"{_BEGINS}[Mm]y favou?rite (?P<slot>[\w ]{{2,30}}?) (?:is|are) (?P<of>[^,.;]+)"),
    ("my {}", rf"{_BEGINS}[Mm]y (?P<slot>[a-z]+(?: [a-z]+)?) is (?:called|named) {_NAME}"),
    ("my {}", rf"{_BEGINS}[Mm]y (?P<slot>[a-z]+(?: [a-z]+)?)'s name is {_NAME}"),
]
_FACTS_READ = [(slot, re.compile(form)) for slot, form in _FACTS]
_HAN_VERY = "(?:也|都|很|非常|最|特别|真的|一直|比较|更|还|就|从来|尤其|十分|平时|平常|现在)*"
_HAN_I = "(?:^|(?<=[，,、：。！]))(?:因为|所以|但是|不过|而且|但)?我"
_HAN_THING = "(?P<of>[^，。！；\\s]+)"
_HAN_NOT = "不(?:太|怎么)?(?:喜欢|爱|想吃|吃|喝|看|用|能吃)|讨厌|受不了|害怕|怕|拒绝|避免"
_HAN = [
    (DISLIKES, "", rf"{_HAN_I}{_HAN_VERY}(?:{_HAN_NOT}){_HAN_THING}"),
    (DISLIKES, "", rf"{_HAN_I}对(?P<of>[^，。！；\s]+?)(?:严重)?(?:过敏|没兴趣|不感兴趣|没有兴趣)"),
    (IS, "favourite {}", rf"{_HAN_I}最(?:喜欢|爱)的(?P<slot>[^，。！；\s]{{1,8}}?)(?:是|：){_HAN_THING}"),
    (LIKES, "", rf"{_HAN_I}{_HAN_VERY}(?:喜欢|热爱|爱|偏爱|喜爱|只吃|只喝|只用|只穿){_HAN_THING}"),
    (IS, "name", rf"{_HAN_I}(?:叫|的名字[是叫])(?P<of>[^，。！；\s]{{1,12}})"),
    (IS, "home", rf"{_HAN_I}(?:现在|已经)?(?:住在|搬到了?|搬去了?)(?P<of>[^，。！；\s]+?)(?=了?[，。！；]|了?$)"),
    (IS, "origin", rf"{_HAN_I}(?:来自|是从)(?P<of>[^，。！；\s]+?)(?=来的|[，。！；]|$)"),
    (IS, "work", rf"{_HAN_I}(?:现在)?在(?P<of>[^，。！；\s]+?)(?:工作|上班)"),
    (IS, "work", rf"{_HAN_I}的(?:工作|职业)是{_HAN_THING}"),
    (IS, "age", rf"{_HAN_I}(?:今年)?(?P<of>[0-9一二三四五六七八九十百]{{1,4}})岁"),
]
_HAN_READ = [(kind, slot, re.compile(form)) for kind, slot, form in _HAN]
_QUESTION = re.compile(r"[?\uff1f]|[吗呢]$")
_UNSURE = re.compile(
    r"\b(?:if|whether|wish|imagine|suppose|pretend|said|says|told|asked|maybe|perhaps)\b|如果|要是|假如|他说|她说", re.I
)
_POINTERS = """
it, that, this, these, those, them, him, her, he, she, they, you, your, yours, how, what, when, who, one, both, so, we,
us, our, everything, nothing, something
"""
_POINTS = re.compile(rf"(?i)(?:(?:seeing )?{_any(_POINTERS)}|the way|the thought)\b")
_HAN_POINTING = re.compile("^(?:这|那|你|您|他|她|它|的|得)")
_CUTS = """
because, since, due to, but, so, as I, as they, as it, when, while, which, rather than, instead of, unless, even,
for their, for its, or any, such as, like, and I, and prefer, and find, and always, and avoid, and will, and much,
and strictly, any more, anymore, especially, particularly
"""
_ENDS = re.compile(rf"(,|\b{_any(_CUTS)}\b)")
_SHORT = {"m": "I am", "ve": "I have"}


def stated(text: str) -> list[Stated]:
    """What a speaker states of themself in a text, in order; of one slot the last."""
    first, last = (
        (1, -1) if re.fullmatch(r'"[^"]*"', text) else (0, None)
    )  # a message that is quoted as a whole is said
    spans = [Span(span.start + first, span.end + first) for span in sentences(text[first:last])]
    found = {one.slot: one for span in spans for one in _in_sentence(text[span.start : span.end], span.start)}
    return sorted(found.values(), key=lambda one: one.span)


def is_question(text: str) -> bool:
    """Whether a message asks for something, rather than tells."""
    last = text.rstrip()
    return bool(_QUESTION.search(last[-2:]) or _ASKS.match(last))


def asks_advice(text: str) -> bool:
    """Whether it asks for what must suit who asks."""
    return bool(_ADVICE.search(text))


def asked_for(question: str) -> list[str]:
    """The slots, or the kinds (LIKES, DISLIKES), that a question asks the speaker's own of: "Where do I live?" -> home;
    one at most."""
    for form, slot in _ASKED:
        if match := form.search(question):
            return [slot.format(*(_slot(group) for group in match.groups() if group))]
    return []


_QUESTIONS = """
who, what, when, where, which, why, how, whose, is, are, do, does, did, can, could, would, will, should, tell me,
recommend, suggest, remind me, give me, list, show me, any ideas, any tips, any recommendations
"""
_ASKS = re.compile(rf"(?i){_any(_QUESTIONS)}\b|谁|什么|哪|怎么|为什么|推荐|告诉我")
_ADVICE = re.compile(r"(?i)\b(?:recommend|suggest|advise|ideas? for|should I|options?|tips|best|good)|推荐|建议|我该")
_ASKED = [
    (re.compile(form, re.I), slot)
    for form, slot in (
        (r"\bmy name\b|who am I\b|我叫什么|我的名字", "name"),
        (r"(?:where|city|town|country|place) (?:do|am) I liv|my (?:home|address)\b|我住|我家在", "home"),
        (r"where (?:am|do) I (?:come )?from|我来自|我是哪里人", "origin"),
        (r"(?:where|what) do I (?:work|do)\b|my (?:job|work|profession)\b|我.{0,4}(?:工作|上班|职业)", "work"),
        (r"how old am I|my age\b|我.{0,2}(?:多大|几岁)", "age"),
        (r"my birthday|when was I born|我.{0,2}生日", "birthday"),
        (r"my favou?rite ([\w ]{2,30}?)(?: is| are)?[?.]*$", "favourite {}"),
        (r"我最(?:喜欢|爱)的(.{1,8}?)是", "favourite {}"),
        (r"(?:name of my|what is my|what's my|who is my|who's my) ([a-z]+)(?:'s name| called| named)?[?.]*$", "my {}"),
        (r"what do(?:n't I| I not) (?:like|enjoy|eat)|what do I (?:dislike|hate|avoid)", DISLIKES),
        (r"我(?:不喜欢|讨厌)什么", DISLIKES),
        (r"what do I (?:like|love|enjoy|prefer)\b|what are my (?:likes|preferences)|我喜欢什么", LIKES),
        (r"\bdo I (?:like|love|enjoy|hate|dislike|eat|avoid) ([\w' -]+?)[?.]*$", f"{LIKING}/{{}}"),
        (r"\bam I (?:allergic to|afraid of|a fan of|into) ([\w' -]+?)[?.]*$", f"{LIKING}/{{}}"),
        (r"我喜不喜欢(.+?)[?？]*$", f"{LIKING}/{{}}"),
    )
]  # fmt: skip


def _in_sentence(sentence: str, start: int) -> Iterator[Stated]:
    if _QUESTION.search(sentence[-2:]) or _UNSURE.search(sentence):
        return
    text, places = _spelled_out(sentence)
    for match, slot, kind in _matches(text):
        says = match["of"].strip(" .!,\u3002\uff01")
        if not says or text[: match.start()].count('"') % 2:
            continue
        first = match.start("here" if "here" in match.groupdict() else 0)
        end = match.end() - len(match[0]) + len(match[0].rstrip(" ,"))
        yield Stated(slot, kind, says, Span(start + places[first], start + places[end]))


def _matches(text: str) -> Iterator[tuple[re.Match[str], str, str]]:
    """What each rule finds in a sentence, with slot and kind; what is liked up to where the next is said."""
    for form_slot, form in _FACTS_READ:
        if match := form.search(text):
            yield match, form_slot.format(_slot(match.groupdict().get("slot") or "")), IS
    taken: set[int] = set()
    for kind, form in _STANCES:
        for start in (at for at in _selves(text) if at not in taken):
            if (match := form.match(text, start, _clause_end(text, start))) and (slot := _thing(match["of"])):
                taken.add(start)
                yield match, slot, kind
    for kind, form_slot, form in _HAN_READ:
        for match in form.finditer(text):
            if match.start() in taken or _HAN_POINTING.match(match["of"]):
                continue
            taken.add(match.start())
            yield match, form_slot.format(match.groupdict().get("slot") or "") or f"{LIKING}/{match['of']}", kind


def _selves(text: str) -> list[int]:
    return [match.start() for match in re.finditer(r"\bI ", text)]


def _clause_end(text: str, start: int) -> int:
    """Where what is said from `start` on ends: at the next clause that begins with I, or with the sentence."""
    later = re.compile(r",? (?:and|but|so|because|although|since|while) (?=I )|; |, (?=I )").search(text, start + 1)
    return later.start() if later else len(text)


def _thing(said: str) -> str:
    """What is liked, in the few words that name it; "" where it only points at something."""
    words = said.split()
    if not words or _POINTS.match(said.strip()):
        return ""
    parts = _ENDS.split(said.strip())
    thing = _slot(parts[0])
    if thing and " " not in thing and parts[1:2] == [","] and " " in parts[2].strip():  # "vegan, cruelty-free products"
        thing = _slot(f"{parts[0]} {parts[2]}")
    return thing and f"{LIKING}/{thing}"


def _slot(said: str) -> str:
    words = re.findall(r"[^\W_]+(?:['\u2019-][^\W_]+)*", said.casefold())
    telling = [word for word in words if word not in STOP_WORDS and word not in ("using", "use", "being")]
    return " ".join(telling[:WORDS]).replace("favorite", "favourite").replace("color", "colour")


def _spelled_out(sentence: str) -> tuple[str, list[int]]:
    """The sentence with "I am" for "I'm", and for each place in it, and its end, where that is in the sentence."""
    text, places, last = "", list[int](), 0
    for match in re.finditer(r"\b[Ii]['\u2019](m|ve)\b|\bi\b(?= )|\u2019", sentence):
        there = _SHORT[match[1]] if match[1] else "I" if match[0] == "i" else "'"
        places += [*range(last, match.start()), *[match.start()] * len(there)]
        text += sentence[last : match.start()] + there
        last = match.end()
    return text + sentence[last:], [*places, *range(last, len(sentence) + 1)]
