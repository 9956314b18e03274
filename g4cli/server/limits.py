"""How large a request may be, part by part. Each limit has an error that names the field.

They keep a request from taking the memory or the time of the server away from others. Where no
other reason is given, a number is a choice: many times what known clients send, and nothing that a
server would notice.
"""

from __future__ import annotations

from typing import Final

from g4cli.core.units import MIB

MAX_BODY_BYTES: Final = 64 * MIB
"""Default of --max-body: a few photos or ten minutes of speech as base64."""
MAX_HEADER_BYTES: Final = 64 * 1024
"""Of the request line and all headers together."""
MAX_TOKENS: Final = 1 << 24
"""Of max_tokens and other numbers of tokens: beyond any context."""
MAX_MESSAGES: Final = 8192
MAX_STOP_STRINGS: Final = 16
MAX_STOP_CHARACTERS: Final = 1024
"""Of one stop string."""
MAX_TOOLS: Final = 256
MAX_TOOL_BYTES: Final = 1 * MIB
"""Of all tool declarations of a request together, as JSON."""
MAX_SCHEMA_BYTES: Final = 1 * MIB
MAX_GRAMMAR_CHARACTERS: Final = 256 * 1024
MAX_DEPTH: Final = 64
"""How deeply objects and lists may be nested within the body of a request."""
MAX_COMMAS: Final = 1 << 20
"""In the JSON of a request: four times the tokens of the longest context, which is 262,144."""
MAX_PARTS: Final = 50_000
"""Fields and items in the JSON of a request, token ids aside."""
MAX_LOGIT_BIAS: Final = 1024
"""Tokens with a bias."""
MAX_TOP_LOGPROBS: Final = 20
"""Alternatives told for each token, as in OpenAI's API."""
MAX_CHOICES: Final = 16
"""Answers to one prompt (`n`)."""
MAX_MEDIA: Final = 64
"""Images and sounds in one request."""
MAX_CONNECTIONS: Final = 1000
"""Just below the 1,024 files that a process may usually open."""
SEND_TIMEOUT_S: Final = 60.0
"""The connection of a client that takes nothing of its answer is closed after so long."""
HEADER_TIMEOUT_S: Final = 20.0
"""For all headers of a request to arrive."""
BODY_TIMEOUT_S: Final = 60.0
"""The longest pause within a body, and how long any body may take."""
MIN_BODY_RATE: Final = 32 * 1024
"""Bytes per second that a body has to come with once BODY_TIMEOUT_S has passed."""
