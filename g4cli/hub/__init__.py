"""Download files from the Hugging Face Hub and verify them. The only user of huggingface_hub.

fetch.py decides where a file comes from; transfer.py downloads it, in threads and over connections
that its own docstring and that of blocks.py describe. header.py reads only the header of a GGUF.
bounds.py and response.py limit what a server may send.

The partial file is in the folder of its target, with a journal of the byte ranges that have
arrived. A killed process loses what it had in memory (at most 1 MiB); if the hash does not match,
everything is kept.
"""

from g4cli.hub.client import Hub, HubOptions, Repository
from g4cli.hub.fetch import Fetch, Fetched
from g4cli.hub.listing import RemoteFile

__all__ = ["Fetch", "Fetched", "Hub", "HubOptions", "RemoteFile", "Repository"]
