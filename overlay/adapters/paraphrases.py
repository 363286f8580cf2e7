"""Paraphrases: pairs of texts that mean the same, between which any model's insides differ a little."""

from __future__ import annotations

ENGLISH = (
    ("The meeting begins at nine, so please be there on time.", "The meeting starts at nine, please arrive on time."),
    ("She bought a small house near the river last spring.", "Last spring she bought a little house near the river."),
    ("The train was late because of the heavy snow.", "Because of the heavy snow, the train was delayed."),
    ("You should wash the rice before you boil it.", "Wash the rice before boiling it."),
    ("The old bridge was closed for repairs in October.", "In October they closed the old bridge for repairs."),
    ("He speaks three languages and reads a fourth.", "He can speak three languages and read a fourth one."),
    ("Most of the visitors come in the summer months.", "The majority of the visitors come in summer."),
    ("The shop on the corner sells bread and newspapers.", "Bread and newspapers are sold in the corner shop."),
    ("If the light is red, the machine is still running.", "The machine is still running if the light is red."),
    ("The doctor told him to rest for a week.", "He was told by the doctor to rest for one week."),
    ("Nobody knows who painted this picture.", "It is not known who painted this picture."),
    ("The lake freezes in December and thaws in March.", "In December the lake freezes over, and in March it thaws."),
)  # fmt: skip

RUSSIAN = (
    ("Собрание начинается в девять, не опаздывайте.", "Собрание начнётся в девять, просим не опаздывать."),
    ("Весной они купили небольшой дом у реки.", "Они купили весной маленький дом у реки."),
    ("Поезд опоздал из-за сильного снега.", "Из-за сильного снега поезд пришёл с опозданием."),
    ("Перед варкой рис нужно промыть холодной водой.", "Рис перед варкой следует промыть холодной водой."),
    ("Старый мост закрыли на ремонт в октябре.", "В октябре старый мост был закрыт на ремонт."),
    ("Он говорит на трёх языках и читает на четвёртом.", "Он говорит на трёх языках, а на четвёртом читает."),
    ("Большинство гостей приезжает летом.", "Большая часть гостей приезжает летом."),
    ("В магазине на углу продают хлеб, молоко и газеты.", "Магазин на углу торгует хлебом, молоком и газетами."),
    ("Если горит красная лампа, машина ещё работает.", "Машина ещё работает, если лампа горит красным."),
    ("Врач велел ему отдыхать неделю.", "Врач сказал ему неделю отдыхать."),
    ("Никто не знает, кто написал эту картину.", "Кто написал эту картину, никто не знает."),
    ("Озеро замерзает в декабре и тает в марте.", "В декабре озеро замерзает, а в марте тает."),
)

PARAPHRASES = ENGLISH + RUSSIAN
"""The fixed pairs by which drift is gauged: written for this, never trained on."""
