"""From the Hugging Face hub to a verified file. The only user of huggingface_hub.

    client.py      Hub: token, endpoint, listing, metadata; its exceptions become ours
    address.py     hf:OWNER/REPO[/FILE][:TYPE][@REVISION]
    listing.py     which file of a repository is which type (no I/O)
    connection.py  one HTTP GET of a byte range: proxies, certificates, redirects
    body.py        the bytes of its answer
    blocks.py      reused buffers, and the thread that writes them
    hashing.py     the thread that hashes them
    journal.py     the partial file and what of it is on disk already
    transfer.py    many ranges at once, retried, resumed, hashed
    lock.py        one process per file
    cache.py       what the hub's own cache holds already
    reuse.py       an update whose weights are here already
    together.py    several files at once
    fetch.py       a file from the cache or from the hub, verified, at its place

The partial of a file lies beside its target, with a journal of the byte ranges that have arrived. A
killed process loses what it had in memory (at most 1 MiB); a mismatch of the hash keeps everything.
"""

from g4cli.hub.client import Hub, HubOptions, Repository
from g4cli.hub.fetch import Fetched, fetch_file
from g4cli.hub.listing import RemoteFile

__all__ = ["Fetched", "Hub", "HubOptions", "RemoteFile", "Repository", "fetch_file"]
