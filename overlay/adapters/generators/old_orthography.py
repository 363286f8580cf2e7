"""Old orthography: modern Russian spelled as it was printed before 1918.

Done: final ъ; і before vowels and й and in міръ, the world; ѣ in the roots, words and endings of
`yat_roots`, in comparatives and in infinitives on -ѣть; ѳ and ѵ in words from the Greek; -аго, -яго;
-ыя, -ія before nouns whose form shows their gender; ея behind a preposition; без-, воз-, из-, раз- before
с, and без- before every consonant; ё becomes е, or ѣ in its roots.

Not done, because it takes a parser or a dictionary of stress: -ыя, -ія before most feminine nouns, and
without a noun; онѣ and однѣ but beside обѣ and before listed nouns; ея as a possessive without a preposition;
-аго where an ending is stressed and its adjective isn't listed; ѣ in the prepositional case of neuters
whose nominative ends in е (поле, море, платье), which may as well be an accusative; words of two meanings
(вести, села, есть, лечу, миръ) keep the commoner one. "Все" is read as all people: write "всё" for all things.
A root that isn't listed keeps its е. The rules are those of J. Grot, Russkoe pravopisanie (1885).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import ClassVar, Literal

from overlay.adapters.generators import yat_roots
from overlay.adapters.generators.generator import Generator, Piece, opening

_CONSONANTS = "бвгджзклмнпрстфхцчшщѳ"
_WORD = re.compile(r"[А-Яа-яЁё]+")
_OLD = re.compile(r"[іѣѳѵІѢѲѴ]|[а-яА-Я]ъ(?![а-яёА-ЯЁ])")

_STRESSED = """
молод больш друг дорог золот прост пуст густ сух глух слеп нем жив родн чуж зл больн цветн ночн дневн лесн речн морск
городск мужск людск мирск основн мостов передов прям крив кос бос сед худ свят крут земн стальн голуб смешн лих плох
туп скуп гнил наг туг втор шест седьм восьм как так никак ин льнян зубн головн ручн шальн рядов часов полев боев
холост пожил удал был чудн выходн домов портов годов деловит делов зимов грозов весов парков вертов чёрств роков дурн
хмельн лесов сам одн
"""
"""Stems whose adjectives end in a stressed -ой: they keep -ого."""

_NO_ADJECTIVE = """
его него чего того этого кого сего всего моего твоего своего нашего вашего чьего ничего нечего некого никого одного
самого много немного намного дорого недорого строго нестрого убого полого отлого итого третьего кое-чего
"""

_SOFT = """
син последн прежн дальн ближн верхн нижн средн крайн внешн внутренн утренн вечерн летн зимн весенн осенн домашн
тогдашн сегодняшн вчерашн завтрашн давн древн передн задн соседн искренн ранн здешн нынешн лишн теперешн всегдашн
тамошн дочерн матерн сын господн излишн
"""

_KEEPS_E = """
не же те уже ещё еще даже тоже также прежде поле море горе солнце сердце блюдце полотенце зеркальце оконце деревце
щупальце ложе паче иначе нынче вдвое втрое двое трое обое наше ваше чье чьё мое моё твое твоё свое своё сие ее её все
всё крайне древне искренне излишне внешне внутренне боже отче кафе шоссе фойе купе пенсне ателье досье портье резюме
кофе желе пюре тире кашне варьете турне филе драже протеже клише либре вообще вовсе вотще ближе ниже уже туже глубже
реже хуже дороже моложе строже тверже жиже гаже похоже дюже выше тише дальше раньше больше меньше старше лучше тоньше
дольше горше суше глуше краше младше легче громче ярче крепче мягче жёстче жестче короче богаче круче жарче резче
четче звонче мельче проще чаще гуще слаще толще чище дешевле более менее далее ранее нежели хуже или после если едва
добрее
"""
"""What ends in е and is neither a dative nor a prepositional case."""

_NOUNS = """
роще пище теще тёще свете рассвете кабинете билете ответе совете газете карете планете монете ракете комете
портрете предмете пакете букете балете паркете факультете университете бюджете секрете запрете буфете сюжете скелете
цвете привете завете обете лорнете жилете граните магните аппетите орбите элите шее идее аллее музее змее батарее
лицее трофее галерее затее хоккее юбилее фее статье семье скамье судье свинье бадье ладье бое герое строе покое слое
рое зное настрое убое обое устое хвое
"""
"""Nouns with an ending that otherwise belongs to verbs, adjectives or neuters."""

_THETA = """
федор=ѳедор фёдор=ѳедор фома=ѳома фоме=ѳоме фому=ѳому фекл=ѳекл афин=аѳин марф=марѳ тимофе=тимоѳе матфе=матѳе
агафь=агаѳь голгоф=голгоѳ орфограф=орѳограф арифметик=ариѳметик миф=миѳ эфир=эѳир анафем=анаѳем кафедр=каѳедр
логарифм=логариѳм рифм=риѳм пафос=паѳос эфиоп=эѳіоп вифлеем=виѳлеем руфь=руѳь фадде=ѳадде пифагор=пиѳагор
акафист=акаѳист досифе=досиѳе феодос=ѳеодос феофан=ѳеофан апофеоз=апоѳеоз фивы=ѳивы коринф=коринѳ скиф=скиѳ
парфенон=парѳенон феодор=ѳеодор
"""

_MYRRH = re.compile(r"^миро(?=$|носиц|помаз|точив)")

_BEFORE_WORLD = """
весь всего всему всем всём целый целого целому целом этот этого этому этом тот новый нового новом новому старый старого
старом древний древнего древнем внешний внешнего внешнем внутренний внутреннего внутреннем духовный духовного духовном
подлунный подлунном
"""
_WORLDLY = re.compile("^(?:(?:все)?мир(?=ов|ск|озд|янин|яне|ян$)|всемирн)")

_GENITIVE = "у от из для без до около после кроме возле против вокруг ради среди"
_OTHER_CASES = "в на о об с к по за под над перед при во со ко"

_FEMININE = """
семьи книги песни руки ноги слёзы слезы птицы женщины девушки сёстры сестры двери ночи звёзды звезды стены улицы реки
горы страны мысли речи вещи силы волны травы берёзы березы сосны деревни церкви минуты недели картины газеты школы
собаки кошки лошади коровы овцы бабы девицы барышни тучи свечи карты дороги яблони вишни розы лампы старухи дамы
бумаги буквы тетради страницы избы крыши
"""
_FEMININE_ENDING = re.compile(r"(?:ости|ницы|ции)$")
_MASCULINE = """
дома города глаза учителя берега леса края снега рога братья друзья сыновья листья стулья колья князья мужья доктора
профессора вечера голоса поезда острова паспорта адреса колокола луга мастера повара сторожа цвета хлеба веера паруса
провода погреба
"""

_NUMBER = re.compile(r"^(?:пяти|шести|семи|восьми|девяти|десяти|двадцати|тридцати)(?=[аеёиоуыэюя])")


class OldOrthography(Generator):
    """Modern Russian sentences as they were spelled before 1918. What is and isn't done: see the module."""

    language: ClassVar[str] = "russian"

    name: Literal["old_orthography"] = "old_orthography"

    def pieces(self, text: str, chance: random.Random, *, every: bool = False) -> list[Piece]:
        """Words and gaps; nothing here is left to chance."""
        return old_pieces(text)

    def beginning(self, pieces: Sequence[Piece], chance: random.Random) -> int:
        """After up to two words of the modern text: the adapter writes the old way whatever it reads."""
        words = [index for index, piece in enumerate(pieces) if piece.written[0].isalpha()]
        kept = min(chance.randint(0, 2), len(words) - 1)
        first = opening(pieces, words[kept])
        return first if any(piece.differs for piece in pieces[first:]) else 0


def old_spelling(text: str) -> str:
    """Modern Russian in the orthography before 1918; text that stands in it already stays as it is."""
    return "".join(piece.wanted for piece in old_pieces(text))


def old_pieces(text: str) -> list[Piece]:
    """The words and gaps of a modern text, each with its old spelling."""
    if _OLD.search(text):
        return [Piece(text, text)]
    worlds = {found.start(1) for found in _world_pattern().finditer(text)}
    words = list(_WORD.finditer(text))
    heading = len(words) > 0 and all(word.group().isupper() for word in words) and len(text) > len(words[0].group())
    pieces, reached = [], 0
    for index, found in enumerate(words):
        word = found.group()
        if found.start() > reached:
            pieces.append(Piece(*[text[reached : found.start()]] * 2))
        reached = found.end()
        lower = word.lower()
        if _is_abbreviation(text, found, heading):
            pieces.append(Piece(word, word))
            continue
        before = (
            words[index - 1].group().lower() if index and text[words[index - 1].end() : found.start()] == " " else ""
        )
        after = ""
        if index + 1 < len(words) and text[reached : words[index + 1].start()] == " ":
            after = words[index + 1].group().lower()
        old = _beside(lower, before, after)
        if old is None:
            is_world = found.start() in worlds or _WORLDLY.match(lower)
            old = _word(lower, is_world=bool(is_world), adjective_of=after)
        pieces.append(Piece(word, _cased(old, word)))
    if reached < len(text):
        pieces.append(Piece(*[text[reached:]] * 2))
    return pieces


def _is_abbreviation(text: str, found: re.Match[str], heading: bool) -> bool:
    word = found.group()
    neighbours = text[found.start() - 1 : found.start()] + text[found.end() : found.end() + 1]
    if any(sign.isalnum() for sign in neighbours):
        return True
    if len(word) == 1:
        return text[found.end() : found.end() + 1] == "."
    if word.isupper() and not heading:
        return True
    return not re.search("[аеёиоуыэюя]", word.lower())


def _beside(word: str, before: str, after: str) -> str | None:
    """Words whose spelling depends on their neighbours."""
    if word == "неё" and before in _genitive():
        return "нея"
    if word == "её" and before in _before_her() and after:
        return "ея"
    if word == "они" and "обе" in (before, after):
        return "онѣ"
    if word == "горе" and before in ("на", "по", "к"):
        return "горѣ"
    if word == "одни" and _is_feminine(after):
        return "однѣ"
    return None


def _word(word: str, *, is_world: bool, adjective_of: str) -> str:
    whole = _words().get(word)
    if whole is not None:
        return _finish(whole)
    if word in _NEVER_OLD:
        return _finish(word)
    old = _prefix(word)
    old = _greek(old)
    if is_world:
        old = old.replace("мир", "мір", 1)
    # Roots before endings: what must follow a root is written in modern letters.
    return _finish(_ending(_roots(old), word, adjective_of))


_NEVER_OLD = {"есть", "вести"}
"""To be, and to lead: the commoner of two meanings."""


def _finish(word: str) -> str:
    """і, ё and the final ъ."""
    word = word.replace("ё", "е")
    number = _NUMBER.match(word)
    head = number.end() if number else 0
    word = word[:head] + re.sub("и(?=[аеиоуыэюяѣйі])", "і", word[head:])
    return word + "ъ" if word[-1] in _CONSONANTS else word


def _prefix(word: str) -> str:
    word = re.sub("^(не|)бес(?=[кпстфхцчшщ])(?!ти)", r"\1без", word)
    word = re.sub("^(не|)обес(?=[псч])", r"\1обез", word)
    return re.sub("^(не|по|пере|при|)(во|и|ра|ни)с(?=с[^е]|се[йрмктядбв])(?!ссор)", r"\1\2з", word)


def _greek(word: str) -> str:
    if _MYRRH.match(word):
        return "мѵ" + word[2:]
    for modern, old in _theta():
        if word.startswith(modern):
            return old + word[len(modern) :]
    return word


def _roots(word: str) -> str:
    """ѣ in the root, and in the root of a second part."""
    found = _root_pattern().match(word)
    if found is None:
        return word
    start, end = found.span(str(found.lastgroup))
    literal = _literals()[word[start:end].replace("ё", "е")]
    rest = re.match(r"([а-я]{0,2}[ое])(.+)", word[end:])
    tail = rest[1] + _roots_of_second_part(rest[2]) if rest else word[end:]
    return word[:start] + literal + tail


def _roots_of_second_part(word: str) -> str:
    found = _root_pattern().match(word)
    # Endings look like short roots: a second part has a root of three letters, and something behind it.
    if found is None or found.start("free") != 0 or found.end("free") < 4:
        return word
    return _literals()[found["free"].replace("ё", "е")] + word[found.end("free") :]


def _ending(word: str, modern: str, adjective_of: str) -> str:
    stem = word[:-3]
    if word.endswith(("ого", "его")) and modern not in _no_adjective() and len(word) > 4:
        if word.endswith("ого") and modern[:-3] not in _stressed():
            return stem + "аго"
        if word.endswith("его"):
            return stem + ("аго" if stem[-1] in "жчшщ" else "яго")
    if modern == "третьего":
        return "третьяго"
    if word.endswith(("ые", "ие")) and len(word) > 3 and _takes_feminine_or_neuter(adjective_of):
        return word[:-1] + "я"
    superlative = re.search("[^жчшщ]ейш(?=(?:ий|ая|ее|ие|его|ему|ую|их|им|ими|ей|ем)$)", word)
    if superlative:
        place = superlative.start() + 1
        return word[:place] + "ѣ" + word[place + 1 :]
    # Verbs on -реть divide into тереть and смотрѣть: those with ѣ are roots of the list.
    if re.search("(?<!р)еть(?:ся)?$", word) and modern not in ("плеть", "мечеть"):
        return re.sub("еть(ся|)$", r"ѣть\1", word)
    if word.endswith("е") and len(word) > 2 and _is_case(word, modern):
        return word[:-1] + "ѣ"
    if re.search("[^жчшщаеиоу]ее$", word) and modern not in _nouns() and modern[:-2] not in _soft():
        return word[:-2] + "ѣе"
    return word


def _is_case(word: str, modern: str) -> bool:
    """Whether a final е is that of a dative or prepositional case."""
    if modern in _keeps_e():
        return False
    if modern in _nouns():
        return True
    # Adjectives, neuters, and verbs of the second person.
    return not re.search("(?:[иыоеь]|щ)е$|[йьие]те$", word)


def _takes_feminine_or_neuter(noun: str) -> bool:
    if noun.endswith(("а", "я")) and noun not in _masculine() and len(noun) > 2 and not noun.endswith(("ся", "ла")):
        return True
    return _is_feminine(noun)


def _is_feminine(noun: str) -> bool:
    return noun in _feminine() or bool(_FEMININE_ENDING.search(noun))


def _cased(old: str, written: str) -> str:
    if len(written) > 1 and written.isupper():
        return old.upper()
    return old[0].upper() + old[1:] if written[0].isupper() else old


def _modern(old: str) -> str:
    return old.replace("ѣ", "е")


def _literal(entry: str) -> str:
    return entry.split("(", 1)[0]


def _pattern(entry: str) -> str:
    literal = _literal(entry)
    return literal.replace("ѣ", "[её]") + entry[len(literal) :]


def _entries(*lists: str) -> list[str]:
    # The longest first: a root that begins with another one is found before it.
    return sorted({entry for text in lists for entry in text.split()}, key=lambda entry: (-len(_literal(entry)), entry))


def _alternatives(items: Iterable[str]) -> str:
    return "|".join(items)


@cache
def _root_pattern() -> re.Pattern[str]:
    prefixes = _alternatives(sorted(yat_roots.PREFIXES.split(), key=len, reverse=True))
    firsts = _alternatives(sorted(yat_roots.FIRST_PARTS.split(), key=len, reverse=True))
    free = _alternatives(map(_pattern, _entries(yat_roots.FREE)))
    bare = _alternatives(map(_pattern, _entries(yat_roots.BARE)))
    vowel = _alternatives(map(_pattern, _entries(yat_roots.VOWEL)))
    eaten = _alternatives(map(_pattern, _entries(yat_roots.EATEN)))
    return re.compile(
        f"(?P<eaten>{eaten})"
        f"|(?:{firsts})?(?P<bare>{bare})"
        f"|(?:{firsts})?(?:{prefixes}){{0,3}}?(?P<free>{free})"
        f"|(?:{firsts})?(?:{prefixes}){{0,3}}?(?<![{_CONSONANTS}])(?P<vowel>{vowel})"
    )


@cache
def _literals() -> dict[str, str]:
    lists = (yat_roots.FREE, yat_roots.BARE, yat_roots.VOWEL, yat_roots.EATEN)
    return {_modern(_literal(entry)): _literal(entry) for entry in _entries(*lists)}


@cache
def _words() -> dict[str, str]:
    return {_modern(word): word for word in yat_roots.WORDS.split()}


@cache
def _world_pattern() -> re.Pattern[str]:
    before = _alternatives(_BEFORE_WORLD.split())
    # Peace and concord are named together.
    return re.compile(rf"\b(?:{before}|в)\s+(мир\w{{0,2}})\b(?!\s+и\s+соглас)", re.IGNORECASE)


@cache
def _before_her() -> frozenset[str]:
    return _genitive() | frozenset(_OTHER_CASES.split())


@cache
def _genitive() -> frozenset[str]:
    return frozenset(_GENITIVE.split())


@cache
def _theta() -> tuple[tuple[str, str], ...]:
    pairs = (entry.split("=") for entry in _THETA.split())
    return tuple((modern, old) for modern, old in pairs)


@cache
def _stressed() -> frozenset[str]:
    return frozenset(_STRESSED.split())


@cache
def _no_adjective() -> frozenset[str]:
    return frozenset(_NO_ADJECTIVE.split())


@cache
def _soft() -> frozenset[str]:
    return frozenset(_SOFT.split())


@cache
def _keeps_e() -> frozenset[str]:
    return frozenset(_KEEPS_E.split())


@cache
def _nouns() -> frozenset[str]:
    return frozenset(_NOUNS.split())


@cache
def _feminine() -> frozenset[str]:
    return frozenset(_FEMININE.split())


@cache
def _masculine() -> frozenset[str]:
    return frozenset(_MASCULINE.split())
