"""Synonym: one verb replaced by another of the same meaning, in the same form."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from overlay.adapters.microvariants.edit import WORD, Edit, Language, edited, language_of, like

# base, third person, past, participle, -ing
_ENGLISH = """
begin begins began begun beginning | start starts started started starting
close closes closed closed closing | shut shuts shut shut shutting
buy buys bought bought buying | purchase purchases purchased purchased purchasing | get gets got got getting
carry carries carried carried carrying | bring brings brought brought bringing | take takes took taken taking
find finds found found finding | discover discovers discovered discovered discovering
fix fixes fixed fixed fixing | repair repairs repaired repaired repairing | mend mends mended mended mending
grow grows grew grown growing | raise raises raised raised raising
help helps helped helped helping | assist assists assisted assisted assisting
keep keeps kept kept keeping | hold holds held held holding | store stores stored stored storing
leave leaves left left leaving | depart departs departed departed departing
look looks looked looked looking | gaze gazes gazed gazed gazing
make makes made made making | build builds built built building | produce produces produced produced producing
put puts put put putting | place places placed placed placing | set sets set set setting | lay lays laid laid laying
read reads read read reading | study studies studied studied studying
say says said said saying | tell tells told told telling | state states stated stated stating
see sees saw seen seeing | notice notices noticed noticed noticing
sell sells sold sold selling | offer offers offered offered offering
show shows showed shown showing | display displays displayed displayed displaying
speak speaks spoke spoken speaking | talk talks talked talked talking
stop stops stopped stopped stopping | halt halts halted halted halting | end ends ended ended ending
think thinks thought thought thinking | believe believes believed believed believing
throw throws threw thrown throwing | toss tosses tossed tossed tossing
try tries tried tried trying | attempt attempts attempted attempted attempting
walk walks walked walked walking | stroll strolls strolled strolled strolling | go goes went gone going
wait waits waited waited waiting | stay stays stayed stayed staying
want wants wanted wanted wanting | wish wishes wished wished wishing
wash washes washed washed washing | clean cleans cleaned cleaned cleaning | rinse rinses rinsed rinsed rinsing
write writes wrote written writing | record records recorded recorded recording | note notes noted noted noting
rest rests rested rested resting | sleep sleeps slept slept sleeping
return returns returned returned returning | come comes came come coming
"""

# infinitive, singular and plural of the present or future, past: masculine, feminine, neuter, plural
_RUSSIAN = """
начать начнет начнут начал начала начало начали |
    приступить приступит приступят приступил приступила приступило приступили
закрыть закроет закроют закрыл закрыла закрыло закрыли | запереть запрет запрут запер заперла заперло заперли
купить купит купят купил купила купило купили |
    приобрести приобретет приобретут приобрел приобрела приобрело приобрели
нести несет несут нес несла несло несли | тащить тащит тащат тащил тащила тащило тащили
найти найдет найдут нашел нашла нашло нашли | отыскать отыщет отыщут отыскал отыскала отыскало отыскали
починить починит починят починил починила починило починили |
    исправить исправит исправят исправил исправила исправило исправили
смотреть смотрит смотрят смотрел смотрела смотрело смотрели | глядеть глядит глядят глядел глядела глядело глядели
сделать сделает сделают сделал сделала сделало сделали |
    изготовить изготовит изготовят изготовил изготовила изготовило изготовили
положить положит положат положил положила положило положили | уложить уложит уложат уложил уложила уложило уложили
поставить поставит поставят поставил поставила поставило поставили |
    разместить разместит разместят разместил разместила разместило разместили
сказать скажет скажут сказал сказала сказало сказали |
    произнести произнесет произнесут произнес произнесла произнесло произнесли
говорить говорит говорят говорил говорила говорило говорили |
    беседовать беседует беседуют беседовал беседовала беседовало беседовали
увидеть увидит увидят увидел увидела увидело увидели | заметить заметит заметят заметил заметила заметило заметили
показать покажет покажут показал показала показало показали |
    предъявить предъявит предъявят предъявил предъявила предъявило предъявили
думать думает думают думал думала думало думали |
    размышлять размышляет размышляют размышлял размышляла размышляло размышляли
бросить бросит бросят бросил бросила бросило бросили | кинуть кинет кинут кинул кинула кинуло кинули
стараться старается стараются старался старалась старалось старались |
    пытаться пытается пытаются пытался пыталась пыталось пытались
гулять гуляет гуляют гулял гуляла гуляло гуляли | ходить ходит ходят ходил ходила ходило ходили
хотеть хочет хотят хотел хотела хотело хотели | желать желает желают желал желала желало желали
мыть моет моют мыл мыла мыло мыли | чистить чистит чистят чистил чистила чистило чистили
записать запишет запишут записал записала записало записали |
    отметить отметит отметят отметил отметила отметило отметили
вернуться вернется вернутся вернулся вернулась вернулось вернулись | прийти придет придут пришел пришла пришло пришли
идти идет идут шел шла шло шли | шагать шагает шагают шагал шагала шагало шагали
закончить закончит закончат закончил закончила закончило закончили |
    завершить завершит завершат завершил завершила завершило завершили
отдыхать отдыхает отдыхают отдыхал отдыхала отдыхало отдыхали | спать спит спят спал спала спало спали
"""

_GROUP_END = re.compile(r"(?<!\|)\n")
_BASE, _PAST, _PARTICIPLE = 0, 2, 3
_BEFORE_PARTICIPLE = re.compile(
    r"\b(?:has|have|had|is|are|was|were|be|been|being)(?: not| just| already)? $", re.IGNORECASE
)


def synonyms(text: str) -> list[Edit]:
    """One verb replaced, once for each other verb of its group that has the form; what the lists lack stays."""
    language = language_of(text)
    forms = _forms(language)
    found = []
    for word in WORD.finditer(text):
        by_place = forms.get(word[0].lower().replace("ё", "е"), {})
        places = _meant(by_place.keys(), text[: word.start()]) if language == "en" else list(by_place)
        others = dict.fromkeys(other for place in places for other in by_place[place])
        found += [edited(text, "synonym", (*word.span(), like(other, word[0]))) for other in others]
    return found


def _meant(places: Iterable[int], before: str) -> list[int]:
    """Which of the forms that are spelled alike stands here; none where the words before it don't tell."""
    left = list(places)
    if _PARTICIPLE in left and len(left) > 1:
        if _BEFORE_PARTICIPLE.search(before):
            return [_PARTICIPLE]
        left.remove(_PARTICIPLE)
    return [] if _BASE in left and _PAST in left else left


@cache
def _forms(language: Language) -> dict[str, dict[int, tuple[str, ...]]]:
    """By form and its place in the lists: the same form of the other verbs of the group."""
    found: dict[str, dict[int, tuple[str, ...]]] = {}
    for group in _GROUP_END.split((_RUSSIAN if language == "ru" else _ENGLISH).strip()):
        verbs = [verb.split() for verb in group.split("|")]
        for verb in verbs:
            for place, form in enumerate(verb):
                others = tuple(other[place] for other in verbs if other[place] != form)
                known = found.setdefault(form, {})
                known[place] = known.get(place, ()) + others
    return found
