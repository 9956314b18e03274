"""Names of languages, as the model is told them, by their codes (ISO 639-1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from g4cli.core.errors import BadField

LANGUAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "af": "Afrikaans", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian",
        "bg": "Bulgarian", "bn": "Bengali", "bs": "Bosnian", "ca": "Catalan", "cs": "Czech",
        "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
        "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish",
        "fr": "French", "ga": "Irish", "gl": "Galician", "gu": "Gujarati", "he": "Hebrew",
        "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian",
        "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh",
        "kn": "Kannada", "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian",
        "ml": "Malayalam", "mr": "Marathi", "ms": "Malay", "mt": "Maltese", "ne": "Nepali",
        "nl": "Dutch", "no": "Norwegian", "pa": "Punjabi", "pl": "Polish", "pt": "Portuguese",
        "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sq": "Albanian",
        "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu",
        "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu",
        "vi": "Vietnamese", "zh": "Chinese", "zu": "Zulu",
    }
)  # fmt: skip
# Names of other languages: four letters and more, so that no code is taken for a name.
_NAME: Final = re.compile(r"[^\W\d_]{4,}(?:[ -][^\W\d_]{2,}){0,3}")


def find_language(text: str, field: str) -> str:
    """Return the name of the language that `text` is the code or the name of; "" stays "".

    Raises BadField, which names `field`.
    """
    word = text.strip()
    if not word:
        return ""
    known = LANGUAGES.get(word.lower())
    if known is None and not (len(word) <= 40 and _NAME.fullmatch(word)):
        raise BadField(field, f"not a language: {word!r:.40}; for example en, or English")
    return known or word[0].upper() + word[1:]
