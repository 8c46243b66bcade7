"""Asking: what a question is about, and of what kind the answer to it is.

Knows: the question words of English and Chinese. Does not know: where an answer is looked for.
"""

from __future__ import annotations

import re

_ASKING = re.compile(  # Chinese words that ask: nothing is found by them
    "什么时候|什么时间|什么样|什么|为什么|为何|何时|何处|何地|何人|多少|多[大长高久远]|几(?!何|乎|内亚)"
    "|谁|哪[一些里个位年]?|怎么样|怎么|怎样|如何|吗|呢|是否"
)
FUNCTION = "的了在是和与于以为被对中有而及其这那个就也都之将把从到由等所一不"  # alone they tell nothing
_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_NUMBER = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|hundred"
    "|thousand|million|billion|half|third|quarter|twice|once"
)
_WHEN = (
    r"(?i)\bwhen\b|\b(?:what|which) (?:year|date|day|month|decade|century|time)|how long"
    r"|什么时[候间]|何时|哪几?一?[年天]|几[月号年]|哪个[月世]|多久|何年|日期|年[份代]",
    rf"\b\d{{3,4}}s?\b|\d ?[年月天周]|世纪|年代|{_MONTH}|centur|decade|\d (?:year|month|day|week|hour)|小时|分钟",
)
_HOW_MANY = (
    r"(?i)\bhow (?:many|much|old|far|tall|high|large|big|often|fast|wide|deep)\b|percent|\bwhat (?:number|amount)"
    r"|多少|几(?!何|乎|内亚)|多[大长高远宽重]|百分",
    rf"\d[\d.,]*|(?i:\b(?:{_NUMBER})\b)"
    "|[零一二三四五六七八九十百千万亿两半](?=[个名次种年人位条座只所家岁分万亿米公英美])",
)
_WHO = (
    r"(?i)\bwh(?:o|om|ose|ere)\b|\b(?:what|which) (?:country|city|state|place|region|nation)",
    r"(?<!^)\b[A-Z][\w'-]+",
)
_WHY = (
    r"(?i)\bwhy\b|为什么|为何|原因",
    r"(?i)\b(?:because|due to|since|so that|caused?|reasons?|in order|to avoid|led to)\b|因|由于|所以|为了|导致|使得",
)
_KINDS = [(re.compile(form), re.compile(answer)) for form, answer in (_WHEN, _HOW_MANY, _WHO, _WHY)]


def subject(question: str) -> str:
    """The question without the Chinese words that only ask; English ones are stop words."""
    return _ASKING.sub(" ", question)


def tells(term: str) -> bool:
    """Whether a term can say what a question is about; a Chinese function word alone cannot."""
    return term not in FUNCTION


def fits(question: str, sentence: str) -> bool:
    """Whether a sentence has something of the kind that is asked for (a time, a number, a name, a reason), and that
    the question itself does not name; True where no kind is recognised."""
    for form, answer in _KINDS:
        if form.search(question):
            return any(match[0] not in question for match in answer.finditer(sentence))
    return True
