"""Stated: what a speaker says of themself - likes, dislikes, name, home, work - and where in the text it is said.

Knows: English and Chinese ways to say so, and to ask for it again. Does not know: memories, who speaks.

Rules, no model: a sentence counts that says it outright, in the first person and the present tense. A question, a
condition, a wish ("I would like"), a memory ("I used to") and what others are quoted with state nothing; nor does what
points elsewhere ("I like it"). So what is found is always a span of the text, and what is not plainly said is not found.
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


class Stated(NamedTuple):
    """What is said: of what (`slot`: "hiking", "home", "favourite colour"), how, in short, and where. What is said later
    of the same slot replaces it."""

    slot: str
    kind: str
    says: str
    span: Span


_ADVERB = (
    r"(?:(?:really|strongly|absolutely|just|also|always|usually|generally|truly|firmly|strictly|especially|still|do|only"
    r"|particularly|personally|totally|honestly|actually|very much|quite|rather|simply|much|now|try to|tend to|have to"
    r"|need to|must|severely|mostly|exclusively|completely|specifically|greatly|adamantly|deeply|actively|consistently|typically) )*"
)
_DEGREE = (
    r"(?:(?:an?|no|any|very|really|not|so|quite|strong|severe|big|huge|great|deep|deep-seated|slight|mild|real|intense|"
)
_DEGREE += r"extreme|acute|serious|general|ethical|personal|particular|strict|genuine|irrational|lifelong|terrible) )*"
_LIKE = "like|love|enjoy|adore|prefer|favou?r|appreciate|prioriti[sz]e|value|cherish"
_USE = "eat|drink|wear|use|watch|play|buy|drive|read|consume|purchase|own|follow|support|consider|shop|stay|travel|choose|dine|feed"
_HAVE_NOT = "do not|don't|cannot|can't|can not|will not|won't|never|would never|refuse to|am unable to|am not able to"
_FEEL = (
    f"am {_DEGREE}(?:allergic to|intolerant to|intolerant of|sensitive to|afraid of|scared of|terrified of|tired of|"
)
_FEEL += "uncomfortable with|against|opposed to|bored by|averse to)"
_DISLIKES = (
    f"(?:dislike|hate|detest|loathe|despise|avoid|refuse|abhor|can't stand|cannot stand|can't bear|cannot bear"
    f"|can't tolerate|cannot tolerate|can't handle|stay away from|steer clear of|try not to|prefer not to|prefer to avoid"
    f"|(?:do not|don't|no longer) {_ADVERB}(?:{_LIKE}|care for|want to|trust|believe in|agree with|feel comfortable)"
    f"|(?:{_HAVE_NOT}) {_ADVERB}(?:{_USE}|stand|tolerate)|{_FEEL}"
    f"|am not {_DEGREE}(?:a fan of|fan of|into|interested in|comfortable with|fond of|keen on)"
    f"|have {_DEGREE}(?:aversion to|aversion for|dislike for|dislike of|dislike to|fear of|phobia of|objection to"
    f"|objections to|allergy to|allergies to|intolerance to|interest in|hatred of|hatred for|distaste for)"
    f"|find (?!it)(?=[^.;]*\\b(?:boring|tedious|ineffective|annoying|unpleasant|distracting|dull|overwhelming|stressful)))"
)
_LIKES = (
    f"(?:{_LIKE}|(?:only|exclusively) (?:{_USE})|am {_DEGREE}(?:into|fan of|fond of|passionate about|keen on|crazy about|drawn to"
    f"|advocate for|lover of|enthusiast of|interested in)|have {_DEGREE}(?:preference for|passion for|love for|love of"
    "|interest in|soft spot for)|believe in)"
)
_BEGINS = (
    r"(?:(?<=^)|(?<=[,;:\u2014] )|(?<=\band )|(?<=\bbut )|(?<=\bbecause )|(?<=\bso )|(?<=\bsince )|(?<=\balthough ))"
)
_SELF = r"(?:I|i) "
_STANCES = [
    (DISLIKES, re.compile(f"{_BEGINS}{_SELF}{_ADVERB}{_DISLIKES}\\b(?P<of>[^;]*)")),
    (DISLIKES, re.compile(f"{_BEGINS}{_SELF}have {_DEGREE}(?P<of>[a-z][a-z -]*) allergy\\b")),
    (LIKES, re.compile(f"{_BEGINS}{_SELF}{_ADVERB}{_LIKES}\\b(?P<of>[^;]*)")),
]
_NAME = r"(?P<of>[A-Z\u00c0-\u00de][\w'\u2019-]*(?: [A-Z\u00c0-\u00de][\w'\u2019-]*){0,2})"
_PLACE = r"(?P<of>(?:the )?[A-Z\u00c0-\u00de][\w'\u2019.-]*(?:,? (?:(?:de|la|of|the) )?[A-Z\u00c0-\u00de][\w'\u2019-]*){0,3})"
_GREETING = r"(?:(?:[Hh]i|[Hh]ello|[Hh]ey)(?: there)?[,!]? )?(?P<here>)"
_DIETS = "vegan|vegetarian|pescatarian|carnivore|flexitarian|plant-based"
    "vegan|vegetarian|pescatarian|carnivore|flexitarian|coeliac|celiac|lactose intolerant|gluten[- ]intolerant|diabetic"
)
_FACTS = [
    ("name", rf"^{_GREETING}(?:[Mm]y name is|I am called|[Cc]all me|[Mm]y name's) {_NAME}"),
    ("name", rf"^{_GREETING}I am {_NAME}(?=[.,!]|$)"),
    ("home", rf"{_BEGINS}I {_ADVERB}(?:live in|moved (?:back )?to|relocated to|have moved to) {_PLACE}"),
    ("origin", rf"{_BEGINS}I (?:am originally|am|come) from {_PLACE}"),
    ("work", rf"{_BEGINS}I {_ADVERB}(?P<of>work (?:as|at|for) [^,.;]+)"),
    ("work", rf"{_BEGINS}[Mm]y (?:job|profession|occupation) is (?P<of>[^,.;]+)"),
    ("age", rf"{_BEGINS}I am (?P<of>\d{{1,3}})(?: years old)?(?=[.,!]|$| and)"),
    ("birthday", rf"{_BEGINS}(?:[Mm]y birthday is|I was born) (?:on )?(?P<of>[^,.;]*\d[^.;]*)"),
    ("diet", rf"{_BEGINS}I am (?:now )?(?:an? )?(?:strict |lifelong |committed |ethical )?(?P<of>{_DIETS})\b"),
    ("diet", rf"{_BEGINS}I {_ADVERB}(?:follow|adhere to|am on) an? (?:strict )?(?P<of>{_DIETS}) diet\b"),
    ("diet {}", rf"{_BEGINS}I {_ADVERB}(?:follow|adhere to|am on) an? (?:strict )?(?P<of>(?P<slot>[\w-]+) diet)\b"),
    ("favourite {}", rf"{_BEGINS}[Mm]y fav(?:ou?rite) (?P<slot>[\w ]{{2,30}}?) (?:is|are) (?P<of>[^,.;]+)"),
    ("my {}", rf"{_BEGINS}[Mm]y (?P<slot>[a-z]+(?: [a-z]+)?) is (?:called|named) {_NAME}"),
    ("my {}", rf"{_BEGINS}[Mm]y (?P<slot>[a-z]+(?: [a-z]+)?)'s name is {_NAME}"),
]
_FACTS_READ = [(slot, re.compile(form)) for slot, form in _FACTS]
_HAN_VERY = "(?:也|都|很|非常|最|特别|真的|一直|比较|更|还|就|从来|尤其|十分|平时|平常|现在)*"
_HAN_BEGINS = "(?:^|(?<=[，,、：。！]))(?:因为|所以|但是|不过|而且|但)?我"
_HAN = [
    (DISLIKES, "", rf"{_HAN_BEGINS}{_HAN_VERY}(?:不(?:太|怎么)?(?:喜欢|爱|想吃|吃|喝|看|用|能吃)|讨厌|受不了|害怕|怕|拒绝|避免)(?P<of>[^，。！；\s]+)"),
    (DISLIKES, "", rf"{_HAN_BEGINS}对(?P<of>[^，。！；\s]+?)(?:严重)?(?:过敏|没兴趣|不感兴趣|没有兴趣)"),
    (IS, "favourite {}", rf"{_HAN_BEGINS}最(?:喜欢|爱)的(?P<slot>[^，。！；\s]{{1,8}}?)(?:是|：)(?P<of>[^，。！；\s]+)"),
    (LIKES, "", rf"{_HAN_BEGINS}{_HAN_VERY}(?:喜欢|热爱|爱|偏爱|喜爱|只吃|只喝|只用|只穿)(?P<of>[^，。！；\s]+)"),
    (IS, "name", rf"{_HAN_BEGINS}(?:叫|的名字[是叫])(?P<of>[^，。！；\s]{{1,12}})"),
    (IS, "home", rf"{_HAN_BEGINS}(?:现在|已经)?(?:住在|搬到了?|搬去了?)(?P<of>[^，。！；\s]+?)(?=了?[，。！；]|了?$)"),
    (IS, "origin", rf"{_HAN_BEGINS}(?:来自|是从)(?P<of>[^，。！；\s]+?)(?=来的|[，。！；]|$)"),
    (IS, "work", rf"{_HAN_BEGINS}(?:现在)?在(?P<of>[^，。！；\s]+?)(?:工作|上班)"),
    (IS, "work", rf"{_HAN_BEGINS}的(?:工作|职业)是(?P<of>[^，。！；\s]+)"),
    (IS, "age", rf"{_HAN_BEGINS}(?:今年)?(?P<of>[0-9一二三四五六七八九十百]{{1,4}})岁"),
]  # fmt: skip
_HAN_READ = [(kind, slot, re.compile(form)) for kind, slot, form in _HAN]
_QUESTION = re.compile(r"[?\uff1f]|[吗呢]$")
_UNSURE = re.compile(
    r"\b(?:if|whether|wish|imagine|suppose|pretend|said|says|told|asked|maybe|perhaps)\b|如果|要是|假如|他说|她说", re.I
)
_POINTS = re.compile(
    r"(?:(?:seeing |the way |the thought |the idea$)?(?:it|that|this|these|those|them|him|her|he|she|they|you|your|yours|how"
    r"|what|when|who|one|both|so|we|us|our|everything|nothing|something)\b|the (?:way|thought)\b)",
    re.IGNORECASE,
)
_HAN_POINTING = re.compile("^(?:这|那|你|您|他|她|它|的|得)")
_ENDS = re.compile(
    r",|\b(?:because|since|due to|but|so|as I|as they|as it|when|while|and (?:I|prefer|find|always|avoid|will|much)|which"
    r"|and strictly|over|rather than|instead of|unless|even|for their|for its|or any|such as|like)\b"
)
_SHORT = {"I'm": "I am", "I've": "I have", "I\u2019m": "I am", "I\u2019ve": "I have"}


def stated(text: str) -> list[Stated]:
    """What a speaker states of themself in a text, in order; of one slot the last."""
    found = {one.slot: one for span in sentences(text) for one in _in_sentence(text[span.start : span.end], span.start)}
    return sorted(found.values(), key=lambda one: one.span)


def is_question(text: str) -> bool:
    """Whether a message asks for something, rather than tells."""
    last = text.rstrip()
    return bool(_QUESTION.search(last[-2:]) or _ASKS.match(last))


def asks_advice(text: str) -> bool:
    """Whether it asks for what must suit who asks."""
    return bool(_ADVICE.search(text))


def asked_for(question: str) -> list[str]:
    """The slots, or the kinds (LIKES, DISLIKES), of what the question asks of the speaker: "Where do I live?" -> home."""
    found = []
    for form, slot in _ASKED:
        if match := form.search(question):
            found.append(slot.format(*(_slot(group) for group in match.groups() if group)))
    return found[:1]


_ASKS = re.compile(
    r"(?i)(?:who|what|when|where|which|why|how|whose|is|are|do|does|did|can|could|would|will|should|tell me|recommend|suggest"
    r"|remind me|give me|list|show me|any (?:ideas|tips|recommendations))\b|谁|什么|哪|怎么|为什么|推荐|告诉我"
)
_ADVICE = re.compile(r"(?i)\b(?:recommend|suggest|advise|ideas? for|should I|options?|tips|best|good)|推荐|建议|该")
_ASKED = [
    (re.compile(form, re.I), slot)
    for form, slot in (
        (r"\bmy name\b|who am I\b|我叫什么|我的名字", "name"),
        (r"where (?:do|am) I liv|my (?:home|address)\b|(?:city|town|country|place) (?:do|am) I liv|我住|我家在", "home"),
        (r"where (?:am|do) I (?:come )?from|我来自|我是哪里人", "origin"),
        (r"(?:where|what) do I (?:work|do)\b|my (?:job|work|profession|occupation)\b|我.{0,4}(?:工作|上班|职业)", "work"),
        (r"how old am I|my age\b|我.{0,2}(?:多大|几岁)", "age"),
        (r"my birthday|when was I born|我.{0,2}生日", "birthday"),
        (r"my favou?rite ([\w ]{2,30}?)(?: is| are)?[?.]*$", "favourite {}"),
        (r"我最(?:喜欢|爱)的(.{1,8}?)是", "favourite {}"),
        (r"(?:name of my|what is my|what's my|who is my|who's my) ([a-z]+)(?:'s name| called| named)?[?.]*$", "my {}"),
        (r"(?:what|which things?) do(?:n't I| I not) (?:like|enjoy|eat)|what do I (?:dislike|hate|avoid)|我(?:不喜欢|讨厌)什么",
         DISLIKES),
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
    parts = re.split(f"({_ENDS.pattern})", said.strip())
    thing = _slot(parts[0])
    if thing and " " not in thing and parts[1:2] == [","]:  # of "vegan, cruelty-free products" not the first word alone
        thing = _slot(f"{parts[0]} {parts[2]}")
    return thing and f"{LIKING}/{thing}"


def _slot(said: str) -> str:
    words = re.findall(r"[^\W_]+(?:['\u2019-][^\W_]+)*", said.casefold())
    telling = [word for word in words if word not in STOP_WORDS and word not in ("using", "use", "being")]
    return " ".join(telling[:WORDS]).replace("favorite", "favourite").replace("color", "colour")


def _spelled_out(sentence: str) -> tuple[str, list[int]]:
    """The sentence with "I am" for "I'm", and for each place in it, and its end, the place in the sentence as it was."""
    text, places, last = "", list[int](), 0
    for match in re.finditer(r"\bI['\u2019](?:m|ve)\b|\u2019", sentence):
        places += range(last, match.start())
        text += sentence[last : match.start()]
        there = _SHORT.get(match[0], "'")
        places += [match.start()] * len(there)
        text, last = text + there, match.end()
    return text + sentence[last:], [*places, *range(last, len(sentence) + 1)]
