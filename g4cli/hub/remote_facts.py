"""The facts for `g4 doctor hf:OWNER/REPO/FILE --quick`, read from the header on the hub."""

from __future__ import annotations

from g4cli.core.errors import BadGGUF
from g4cli.core.hub_address import HUB_PREFIX, parse_address
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.facts.gather import facts_of_header
from g4cli.hub.client import Hub
from g4cli.hub.header import remote_header
from g4cli.hub.listing import pick_model, preferred_type


def read_remote_facts(address: str) -> FileFacts:
    """Return the facts that the header of a file on the hub gives.

    `address` is hf:OWNER/REPO[/FILE][:TYPE][@REVISION]. Raises NotFound if there is no such file,
    and the errors of the hub.
    """
    repo, path, type_name, revision = parse_address(address)
    hub = Hub()
    repository = hub.read_repository(repo, revision)
    files = repository.files
    if path:
        file = repository.find_file(path, hint=f"g4 fit hf:{repo}")
    else:
        file = pick_model(repo, files, type_name or preferred_type(files))[0]
    label = f"{HUB_PREFIX}{repo}/{file.path}"
    try:
        header = remote_header(hub, repository, file, whole=True)  # the vocabulary is checked too
    except BadGGUF as fault:
        return FileFacts(label, file.nbytes, fault=fault, depth="quick")
    return facts_of_header(label, file.nbytes, header, "quick")
