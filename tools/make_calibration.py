"""Write the calibration text of `g4 imatrix`, or check that it is current.

    python tools/make_calibration.py           write g4cli/data/calibration/text.jsonl
    python tools/make_calibration.py --check   exit with 1 if the file differs

An importance matrix should see what an assistant writes: prose in many languages, code, manuals,
tables, JSON, sums, calls of tools with their results. The prose and the code are in
tools/calibration/*.txt; records, tables, sums and calls of tools are made here from short lists,
with random numbers that are the same at each run. The conversations are shuffled, so that any
number of chunks from the start is a sample of all kinds.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = ROOT / "tools" / "calibration"
TARGET: Final = ROOT / "g4cli" / "data" / "calibration" / "text.jsonl"
Turn: TypeAlias = dict[str, Any]
Chat: TypeAlias = dict[str, Any]

CITIES: Final = (
    "Lagos", "Kyoto", "Turin", "Bergen", "Quito", "Leeds", "Gdańsk", "Porto", "Hanoi", "Accra",
    "Lyon", "Izmir", "Perth", "Oaxaca", "Tartu", "Utrecht",
)  # fmt: skip
PEOPLE: Final = (
    "Amara Obi", "Kenji Mori", "Lucía Vega", "Tom Hale", "Ingrid Dahl", "Rafael Pinto",
    "Mei Chen", "Anton Weiss", "Zeynep Kaya", "Noor Haddad", "Eva Novák", "Samir Patel",
)  # fmt: skip
GOODS: Final = (
    ("oak shelf", 89.0), ("desk lamp", 34.5), ("wool blanket", 59.9), ("tea kettle", 27.0),
    ("garden hose", 19.95), ("bicycle bell", 8.5), ("notebook, A5", 4.2), ("cast-iron pan", 44.0),
    ("rain jacket", 72.0), ("chess set", 38.75), ("hand saw", 21.3), ("pepper mill", 16.8),
)  # fmt: skip
WEATHER: Final = ("light rain", "clear sky", "fog", "thunderstorm", "overcast", "snow showers")
TASKS: Final = (
    "dentist", "team meeting", "parents' evening", "car inspection", "rehearsal",
    "call with the bank", "train to the coast", "swimming lesson",
)  # fmt: skip
ERRORS: Final = (
    ("disk", "write failed: no space left on device", "the disk is full"),
    (
        "db",
        "connection refused (127.0.0.1:5432)",
        "the database does not run, or listens elsewhere",
    ),
    ("tls", "certificate has expired", "the certificate has to be renewed"),
    ("mem", "process 2114 killed: out of memory", "the machine has too little memory"),
)


def main(arguments: Sequence[str]) -> int:
    """Write the file, or with --check return 1 if it differs from what would be written."""
    text = "".join(json.dumps(chat, ensure_ascii=False) + "\n" for chat in make_chats())
    if "--check" in arguments:
        current = TARGET.read_text(encoding="utf-8") if TARGET.is_file() else ""
        return int(current != text)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}: {len(text.encode()):,} bytes")
    return 0


def make_chats() -> list[Chat]:
    """Return all conversations, in the order of the file."""
    rng = random.Random(4)
    chats = [chat for path in sorted(SOURCES.glob("*.txt")) for chat in read_chats(path)]
    makers = (_make_order, _make_table, _make_sum, _make_log, _make_weather_call, _make_agenda_call,
              _make_extraction, _make_conversion)  # fmt: skip
    for round_number in range(18):
        chats += [make(rng, round_number) for make in makers]
    _shuffle(rng, chats)
    return chats


def read_chats(path: Path) -> Iterator[Chat]:
    """Yield the conversations of a file: '>>> ' begins a question, '=====' a new conversation."""
    for block in path.read_text(encoding="utf-8").split("\n=====\n"):
        messages: list[Turn] = []
        for part in ("\n" + block.strip()).split("\n>>> ")[1:]:
            lines = part.split("\n")
            # A question may go on with a block of code.
            end = 1
            if len(lines) > 1 and lines[1].startswith("```") and _asks_about_code(lines[0]):
                end = lines.index("```", 2) + 1
            messages.append({"role": "user", "content": "\n".join(lines[:end])})
            messages.append({"role": "assistant", "content": "\n".join(lines[end:]).strip()})
        yield {"messages": messages}


def _asks_about_code(question: str) -> bool:
    return question.startswith(("Why does this", "Find the bug"))


def _shuffle(rng: random.Random, items: list[Chat]) -> None:
    # random.shuffle may change between versions of Python; random() does not.
    for last in range(len(items) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        items[last], items[other] = items[other], items[last]


def _pick(rng: random.Random, items: Sequence[Any]) -> Any:
    return items[int(rng.random() * len(items))]


def _number(rng: random.Random, low: int, high: int) -> int:
    return low + int(rng.random() * (high - low + 1))


def _chat(question: str, answer: str) -> Chat:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


# --- Records, tables, sums, logs ---


def _make_order(rng: random.Random, number: int) -> Chat:
    lines = [(*_pick(rng, GOODS), _number(rng, 1, 4)) for _ in range(_number(rng, 2, 3))]
    person, city = _pick(rng, PEOPLE), _pick(rng, CITIES)
    told = " and ".join(f"{count} × {name} at {price:.2f}" for name, price, count in lines)
    document = {
        "order": 20000 + 37 * number,
        "customer": {"name": person, "city": city},
        "lines": [
            {"item": name, "quantity": count, "unit_price": price, "total": round(price * count, 2)}
            for name, price, count in lines
        ],
        "total": round(sum(price * count for _, price, count in lines), 2),
        "paid": rng.random() < 0.5,
        "note": None,
    }
    return _chat(
        f"Return this order as JSON: {person} from {city} bought {told}. Order number "
        f"{document['order']}, {'paid' if document['paid'] else 'not paid yet'}.",
        json.dumps(document, ensure_ascii=False, indent=2),
    )


def _make_table(rng: random.Random, number: int) -> Chat:
    cities = [CITIES[(number + 3 * i) % len(CITIES)] for i in range(4)]
    rows = [(c, _number(rng, -6, 31), _number(rng, 5, 190), _pick(rng, WEATHER)) for c in cities]
    data = "\n".join(",".join(map(str, row)) for row in rows)
    warmest = max(rows, key=lambda row: row[1])
    table = "\n".join(f"| {c} | {t} | {mm} | {w} |" for c, t, mm, w in sorted(rows))
    return _chat(
        "Make a Markdown table of this CSV, sorted by city, and name the warmest city.\n\n"
        f"city,celsius,rain_mm,sky\n{data}",
        f"| city | °C | rain (mm) | sky |\n|---|---|---|---|\n{table}\n\n"
        f"The warmest is {warmest[0]} with {warmest[1]} °C.",
    )


def _make_sum(rng: random.Random, _number_of_round: int) -> Chat:
    a, b, c = _number(rng, 12, 98), _number(rng, 11, 79), _number(rng, 100, 999)
    tens, ones = b - b % 10, b % 10
    return _chat(
        f"What is {a} × {b} + {c}? Show the steps.",
        f"First the product: {a} × {b} = {a} × {tens} + {a} × {ones} = {a * tens} + {a * ones} = "
        f"{a * b}.\nThen the sum: {a * b} + {c} = {a * b + c}.\n\n**{a * b + c}**",
    )


def _make_log(rng: random.Random, _number_of_round: int) -> Chat:
    part, message, cause = _pick(rng, ERRORS)
    second, lines = _number(rng, 0, 30), []
    for place in range(5):
        second += _number(rng, 1, 5)
        level, source, what = "INFO", "http", f"GET /items/{_number(rng, 1, 999)} 200"
        if place == 3:
            level, source, what = "ERROR", part, message
        if place == 4:
            level, source, what = "WARN", "http", "GET /items 500"
        lines.append(
            f"2026-03-{_number(rng, 10, 28)}T08:14:{second:02d}Z {level} [{source}] {what}"
        )
    return _chat(
        "What went wrong here?\n\n" + "\n".join(lines),
        f"The line marked ERROR says `{message}`: {cause}. The request that failed afterwards with "
        f"status 500 is a consequence, not the cause. Before that, the requests succeeded.",
    )


def _make_extraction(rng: random.Random, _number_of_round: int) -> Chat:
    person, city, task = _pick(rng, PEOPLE), _pick(rng, CITIES), _pick(rng, TASKS)
    day, hour = _number(rng, 1, 28), _number(rng, 8, 19)
    document = {"name": person, "place": city, "date": f"05-{day:02d}", "time": f"{hour:02d}:30"}
    return _chat(
        f'Extract name, place, date and time as JSON from: "Hi, {person} here. The {task} in '
        f'{city} is moved to May {day} at {hour}:30, same room."',
        json.dumps(document, ensure_ascii=False),
    )


def _make_conversion(rng: random.Random, _number_of_round: int) -> Chat:
    kilometers, minutes = _number(rng, 3, 42), _number(rng, 15, 240)
    speed = kilometers / (minutes / 60)
    return _chat(
        f"I covered {kilometers} km in {minutes} minutes. How fast is that in km/h and mph?",
        f"{minutes} minutes are {minutes / 60:.2f} hours, so the speed is {kilometers} / "
        f"{minutes / 60:.2f} = {speed:.1f} km/h. A mile is 1.609 km: {speed:.1f} / 1.609 = "
        f"{speed / 1.609:.1f} mph.",
    )


# --- Calls of tools ---


def _declare(name: str, description: str, **properties: tuple[str, str]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {
                    key: {"type": kind, "description": text}
                    for key, (kind, text) in properties.items()
                },
                "required": list(properties)[:1],
            },
        },
    }


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _make_weather_call(rng: random.Random, _number_of_round: int) -> Chat:
    city, sky, degrees = _pick(rng, CITIES), _pick(rng, WEATHER), _number(rng, -8, 34)
    tool = _declare(
        "get_weather",
        "Returns the current weather of a city.",
        city=("string", "Name of the city"),
        unit=("string", "celsius or fahrenheit"),
    )
    result = json.dumps({"city": city, "temperature": degrees, "sky": sky}, ensure_ascii=False)
    return {
        "messages": [
            {"role": "system", "content": "Answer in one sentence. Use tools where they help."},
            {"role": "user", "content": f"Do I need a coat in {city} right now?"},
            {"role": "assistant", "tool_calls": [_call("get_weather", city=city, unit="celsius")]},
            {"role": "tool", "name": "get_weather", "content": result},
            {
                "role": "assistant",
                "content": f"{'Yes' if degrees < 16 else 'No'}: in {city} it is {degrees} °C with "
                f"{sky}.",
            },
        ],
        "tools": [tool],
    }


def _make_agenda_call(rng: random.Random, number: int) -> Chat:
    person, task = _pick(rng, PEOPLE), _pick(rng, TASKS)
    day, hour, minutes = _number(rng, 1, 28), _number(rng, 8, 18), 15 * _number(rng, 1, 6)
    date = f"2026-06-{day:02d}"
    tools = [
        _declare(
            "list_events",
            "Lists the events of a day.",
            date=("string", "Day as YYYY-MM-DD"),
        ),
        _declare(
            "create_event",
            "Creates an event in the calendar.",
            title=("string", "Title of the event"),
            start=("string", "Start as YYYY-MM-DDTHH:MM"),
            minutes=("integer", "Length in minutes"),
            guests=("array", "Names of the guests"),
        ),
    ]
    start = f"{date}T{hour:02d}:00"
    listed = json.dumps({"events": []})
    created = json.dumps({"id": 900 + number, "created": True})
    return {
        "messages": [
            {
                "role": "user",
                "content": f"If I am free on June {day}, add the {task} with {person} at "
                f"{hour}:00, {minutes} minutes.",
            },
            {"role": "assistant", "tool_calls": [_call("list_events", date=date)]},
            {"role": "tool", "name": "list_events", "content": listed},
            {
                "role": "assistant",
                "tool_calls": [
                    _call("create_event", title=task, start=start, minutes=minutes, guests=[person])
                ],
            },
            {"role": "tool", "name": "create_event", "content": created},
            {
                "role": "assistant",
                "content": f'You were free on June {day}. I added "{task}" with {person} from '
                f"{hour}:00, for {minutes} minutes.",
            },
        ],
        "tools": tools,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
