"""Download files from the Hugging Face Hub and verify them. The only user of huggingface_hub.

    client.py        Hub: token, endpoint, listing, metadata; its exceptions become G4Error
    bounds.py        limits on what the hub may answer to the listing and metadata requests
    listing.py       which file of a repository is which type (no I/O)
    proxies.py       the proxies that the environment names
    connection.py    one HTTP GET of a byte range: certificates, redirects
    response.py      the lines of its response, in bounded time
    body.py          the bytes of its response
    blocks.py        reused buffers, and the thread that writes them
    hashing.py       the thread that hashes them
    journal.py       the partial file, and the record of the byte ranges in it
    transfer.py      many ranges at once, retried, resumed, hashed
    lock.py          one process per file
    cache.py         what the Hugging Face cache holds already
    reuse.py         an update whose weights are on this disk already
    together.py      several files at once
    fetch.py         a file from the cache or from the hub, verified
    header.py        the GGUF header of a file on the hub, without its weights
    remote_facts.py  what the doctor can tell from such a header

The partial file is in the folder of its target, with a journal of the byte ranges that have
arrived. A killed process loses what it had in memory (at most 1 MiB); if the hash does not match,
everything is kept.
"""

from g4cli.hub.client import Hub, HubOptions, Repository
from g4cli.hub.fetch import Fetched, fetch_file
from g4cli.hub.listing import RemoteFile

__all__ = ["Fetched", "Hub", "HubOptions", "RemoteFile", "Repository", "fetch_file"]
