"""Units of measurement: what a unit measures, and how large it is."""

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """``dimension`` is None for words that measure nothing known ("ways", "apples"): they are left out."""

    dimension: str | None
    size: Fraction
    words: str = ""

    @property
    def top(self) -> str | None:
        """What is measured per something else: "5 cents per minute" may be said as "5 cents"."""
        top, per, _ = (self.dimension or "").partition("/")
        return top if per else None


_SIZES = {
    "length": {
        "mm millimeter millimetre": "1/1000", "cm centimeter centimetre": "1/100", "m meter metre": "1",
        "km kilometer kilometre": "1000", "nm nanometer nanometre": "1/1000000000",
        "厘米": "1/100", "米": "1", "千米 公里": "1000", "in inch inche": "0.0254", "ft foot feet": "0.3048",
        "yd yard": "0.9144", "mi mile": "1609.344",
    },
    "mass": {
        "mg milligram": "1/1000", "g gm gram": "1", "kg kilogram": "1000", "oz ounce": "28.349523125",
        "lb pound": "453.59237", "克": "1", "千克 公斤": "1000",
    },
    "time": {"s sec second": "1", "min minute": "60", "h hr hour": "3600", "day": "86400", "week": "604800",
        "year yr": "31557600", "秒": "1", "分钟": "60", "小时": "3600", "天": "86400",
    },
    "money": {"cent": "1", "dollar usd buck": "100"}, "euro": {"euro eur": "1"}, "rupee": {"rupee rs inr": "1"},
    "yen": {"yen jpy": "1"}, "yuan": {"yuan rmb cny 元": "1"}, "pound sterling": {"gbp": "1"}, "won": {"krw": "1"},
    "volume": {"ml milliliter millilitre": "1/1000", "l liter litre": "1"},
    "angle": {"degree deg": "1"}, "arc": {"radian rad": "1"},
    "length/time": {"kph kmh": "5/18", "mph": "0.44704"},
    "share": {"percent %": "1/100"}, "force": {"newton": "1", "kn kilonewton": "1000"},
    "energy": {"joule": "1", "kj kilojoule": "1000", "ev": "1.602176634e-19"},
    "power": {"watt": "1", "kw kilowatt": "1000"}, "frequency": {"hz hertz": "1", "khz kilohertz": "1000"},
    "voltage": {"volt": "1"}, "current": {"ampere amp": "1"}, "pressure": {"pa pascal": "1", "kpa": "1000"},
}  # fmt: skip
UNITS = {
    name: Unit(dimension, Fraction(size))
    for dimension, table in _SIZES.items()
    for names, size in table.items()
    for name in names.split()
}
# One-letter symbols, units only where they are set upright behind a number: \mathrm{N}.
LETTERS = {
    "N": "newton",
    "J": "joule",
    "W": "watt",
    "V": "volt",
    "A": "ampere",
    "K": "kelvin",
    "m": "m",
    "s": "s",
    "g": "g",
}
SCALES_OF_TEMPERATURE = ("degrees Celsius", "degrees Fahrenheit")
_TEMPERATURE = re.compile(r"(?:degrees? )?(?:(c|celsius)|(f|fahrenheit))", re.IGNORECASE)
# Codes of money that may stand before or behind an amount, by the unit's name.
CURRENCIES = {
    "USD": "usd", "US$": "usd", "EUR": "eur", "GBP": "gbp", "INR": "inr", "Rs": "inr",
    "JPY": "jpy", "CNY": "cny", "RMB": "cny", "KRW": "krw",
}  # fmt: skip
# Parts of Chinese words behind a number that would change it: "12万", "12倍", "12以上".
CHANGING = ("万", "亿", "千", "百", "十", "倍", "半", "不", "以", "多", "分之", "余", "几", "超", "少", "非")
# Words of the same sound as something that would change the answer: "5 or more" is not 5.
REFUSED = set(
    "not no less more fewer least most than below above minus plus times over under except if or and at between none "
    "thousand million billion trillion hundred dozen half third quarter cannot undefined infinitely squared "
    "cubed".split()
)


def unit(words: str, power: str = "") -> Unit:
    """The unit that words name, such as "square inches" or "miles per hour"; "cm" with ``power`` 2 is an area."""
    words = LETTERS.get(words, words)
    if words.lower().startswith("degree") and (scale := _TEMPERATURE.fullmatch(words)):
        return Unit(SCALES_OF_TEMPERATURE[0 if scale[1] else 1], Fraction(1), words)
    top, per, bottom = re.sub(r"\bper\b", "/", words).partition("/")
    if per and not power:
        first, second = unit(top.strip()), unit(bottom.strip())
        if first.dimension and second.dimension:
            return Unit(f"{first.dimension}/{second.dimension}", first.size / second.size, words)
        return Unit(None, Fraction(1), words)
    names = words.lower().replace(".", "").replace("-", " ").split()
    if names and names[0] in ("square", "sq"):
        names, power = names[1:], "2"
    elif names and names[0] in ("cubic", "cu"):
        names, power = names[1:], "3"
    elif names and (raised := re.fullmatch(r"([a-z]+)\^?\{?([23])\}?", names[-1])):
        names[-1], power = raised[1], raised[2]
    known = (UNITS.get(names[0]) or UNITS.get(names[0].removesuffix("s"))) if len(names) == 1 else None
    if known is None:
        return Unit(None, Fraction(1), words)
    if power in ("2", "3"):
        return Unit(f"{known.dimension}^{power}", known.size ** int(power), words)
    return known._replace(words=words)
