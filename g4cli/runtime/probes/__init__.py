"""Child processes that try what may crash: kernels, memory plans, untrusted files."""
